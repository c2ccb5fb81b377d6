"""Which files an artifact learned from, as far as its manifest says, and that none is measured on.

Files are told by their SHA-256. A part of such a file, or the same pairs written otherwise, cannot
be told; the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.errors import TrainingError
from training.reporting.run_folder import mapping, objects


def learned_from(made: Mapping[str, Any], *, head: bool = True) -> dict[str, str]:
    """Return what was trained on each file, `encoder` or `head`, by the file's SHA-256 (hex).

    made: of a manifest; head: whether to count the head's.
    """
    found = {}
    sha256 = mapping(made.get("head")).get("sha256")
    if head and sha256:
        found[str(sha256)] = "head"
    for file in objects(mapping(made.get("trained_on")).get("files")):
        if file.get("sha256"):
            found[str(file["sha256"])] = "encoder"
    return found


def check_unseen(made: Mapping[str, Any], measured: Mapping[str, str], *, head: bool) -> None:
    """Raise TrainingError where a set is a file that encoder or head were trained on.

    measured: the SHA-256 of each set's file, by name; head: whether the artifact's head stays.
    """
    trained = learned_from(made, head=head)
    for name, sha256 in measured.items():
        if sha256 not in trained:
            continue
        remedy = "give pairs that were held out of training"
        if trained[sha256] == "head":
            remedy += ", or leave the head out (--no-head) or train another (--train)"
        raise TrainingError(
            f"{name}: the artifact's {trained[sha256]} was trained on this very file (SHA-256 "
            f"{sha256[:12]}), so nothing can be measured on it; {remedy}"
        )
