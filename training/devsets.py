"""Dev sets out of files: what a file can measure is seen from its columns.

text1, text2, label (or Quora's own names)   pairs, the natural ones
text, label, perhaps split                   one-shot classification
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data import (
    count_dropped,
    file_kind,
    read_groups,
    read_natural_pairs,
    read_pairs,
    read_texts,
)
from training.errors import TrainingError
from training.fields import NONE_LABEL, PAIR_COLUMNS
from training.tables import ending, open_table
from training.tasks import DRAWS, Figures, evaluate_one_shot, evaluate_pairs

if TYPE_CHECKING:
    from training.data import Dropped
    from training.encoders import Encoder

# Raised when a task's figures come to mean something else, so that no kept ones are taken for them.
_TASKS = 1


@dataclass(frozen=True, slots=True)
class DevSet:
    """A set, read and checked, that any encoder can be measured on.

    key: SHA-256 (hex) of the files' bytes and of every setting that the figures depend on;
    dropped: how many of its rows were left out, by reason.
    """

    name: str
    key: str
    dropped: dict[str, int]
    measure: Callable[[Encoder], Figures]


def set_name(path: Path) -> str:
    """Return what to call the set in a file: its name up to the first dot.

    Files called after a split alone are called `folder/dev`.
    """
    name = path.name.split(".")[0]
    return f"{path.resolve().parent.name}/{name}" if name in {"train", "dev", "test"} else name


def read_set(
    path: Path, *, none_label: str = NONE_LABEL, draws: int = DRAWS, seed: int = 0
) -> DevSet:
    """Return the set in a file of labelled pairs or labelled texts.

    none_label, draws, seed: of one-shot classification, see `evaluate_one_shot`.
    Raises PairsError, with the line, where the file is missing or malformed, or its pairs are all
    of one kind.
    """
    if file_kind(path) == "pairs":
        pairs = read_natural_pairs(path)
        return DevSet(
            set_name(path),
            _key("pairs", [pairs.fingerprint], {}),
            _counted(pairs.dropped),
            lambda encoder: evaluate_pairs(encoder, pairs),
        )
    texts = read_groups(path)
    return DevSet(
        set_name(path),
        _key(
            "one_shot",
            [texts.fingerprint],
            {"none_label": none_label, "draws": draws, "seed": seed},
        ),
        _counted(texts.dropped),
        lambda encoder: evaluate_one_shot(
            encoder, texts, draws=draws, seed=seed, none_label=none_label
        ),
    )


def read_retrieval(
    files: Sequence[Path],
    *,
    corpus: Sequence[Path] = (),
    ballast: Path | None = None,
    ballast_count: int | None = None,
    threads: int = 2,
) -> DevSet:
    """Return the retrieval of the duplicates in files of pairs, natural or not.

    They are looked for among all texts of the files, those of `corpus` (pairs or texts), and the
    first `ballast_count` texts of `ballast`.
    Raises PairsError, with the line, where a file is missing or malformed.
    """
    # Here and not above: FAISS is no use to the other tasks.
    from training.retrieval import evaluate_retrieval, retrieval_of

    pairs = read_pairs(*files)
    more = read_corpus(corpus)
    if ballast is not None:
        more += read_texts(ballast, ballast_count)
    retrieval = retrieval_of(pairs, more)
    digest = hashlib.sha256()
    for text in retrieval.texts:
        digest.update(text.encode() + b"\0")
    return DevSet(
        f"{'+'.join(set_name(path) for path in files)} retrieval",
        _key("retrieval", [pairs.fingerprint, digest.hexdigest()], {}),
        _counted(pairs.dropped),
        lambda encoder: evaluate_retrieval(encoder, retrieval, threads=threads),
    )


def check_names(names: Sequence[str]) -> None:
    """Raise TrainingError where two sets have one name, under which only one could be reported."""
    for name in names:
        if names.count(name) > 1:
            raise TrainingError(f"two sets are called {name}; rename one of the files")


def read_corpus(files: Sequence[Path], limit: int | None = None) -> list[str]:
    """Return the texts of files of pairs or of texts, the first `limit` of each.

    Raises PairsError, with the line, where a file is missing or malformed.
    """
    texts: list[str] = []
    for path in files:
        found = read_pairs(path).texts if _is_of_pairs(path) else read_texts(path, limit)
        texts += found[:limit]
    return texts


def _is_of_pairs(path: Path) -> bool:
    if ending(path) == ".txt":
        return False
    names = set(open_table(path).names)
    return any(names.issuperset(columns) for columns in PAIR_COLUMNS)


def _counted(dropped: Sequence[Dropped]) -> dict[str, int]:
    return dict(count_dropped(dropped))


def _key(kind: str, data: Sequence[str], settings: dict[str, Any]) -> str:
    whole = {"tasks": _TASKS, "kind": kind, "data": data, "settings": settings}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
