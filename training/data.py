"""Labelled pairs, labelled texts and plain texts, read whole or refused with the line.

What a file holds is seen from its columns, whatever its kind (`training.tables`):

text1, text2, label                  pairs; label 1 for duplicates, 0 for non-duplicates
question1, question2, is_duplicate   the same, under Quora's names
text, label                          labelled groups: texts of one label are duplicates

Further columns are passed over, so feedback exported by the service is read as it is.

Texts of equal canonical form (`app.domain.text`) are one text, spelt as it first appears: the
service answers for them without asking an encoder, so they can teach and measure nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from training.collect import Collector
from training.errors import PairsError
from training.fields import (
    GROUP_COLUMNS,
    NONE_LABEL,
    as_text,
    labelled_rows,
    need_columns,
    pair_columns,
    unfit,
)
from training.pairs import Dropped, Pairs, Reason, Source, as_places, count_dropped, nothing_left
from training.tables import check_file, ending, open_table, read_lines, sha256

__all__ = [
    "NONE_LABEL",
    "Dropped",
    "LabelledTexts",
    "Pairs",
    "Reason",
    "Source",
    "count_dropped",
    "file_kind",
    "read_groups",
    "read_natural_pairs",
    "read_pairs",
    "read_texts",
]


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts with the class of each, as a one-shot set has them.

    split: of each text, () where the file has no column `split`;
    fingerprint: SHA-256 (hex) of the file's bytes.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    split: tuple[str, ...]
    fingerprint: str
    dropped: tuple[Dropped, ...] = ()

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    def take(self, chosen: ArrayLike) -> LabelledTexts:
        """Return some of the texts, by (n,) mask or by places."""
        places = as_places(chosen).tolist()
        return replace(
            self,
            texts=tuple(self.texts[place] for place in places),
            labels=tuple(self.labels[place] for place in places),
            split=tuple(self.split[place] for place in places) if self.split else (),
        )


def file_kind(path: Path) -> Literal["pairs", "groups"]:
    """Return whether a file holds pairs or labelled groups, from its columns.

    Raises PairsError where it holds neither, or as `open_table` does.
    """
    return "pairs" if pair_columns(open_table(path)) else "groups"


def read_pairs(
    path: Path, *more: Path, natural_only: bool = False, none_label: str = NONE_LABEL
) -> Pairs:
    """Return the pairs of one file or several.

    Blank and over-long texts, self-pairs and repetitions are left out and listed in `dropped`. Of
    a pair with both labels the non-duplicate is left out, as `graph.drop_contradictions` does
    within whole groups. A file without a column `natural` is all natural.

    The k texts of a labelled group become k - 1 duplicates, each text with the next of its label:
    the fewest that make one group of them. They are never natural: nothing says which of the
    texts are no duplicates. A text of several labels is a contradiction and left out. Of a file
    with a column `split`, the texts of `train` are taken.

    natural_only: leave out the pairs that are not natural, uncounted.
    none_label: in labelled groups, of texts that belong to no group and are left out.
    Raises PairsError, with the line, where a file is missing or malformed or nothing is left;
    TrainingError where a file is Parquet and pyarrow is not installed.
    """
    pairs = Collector(natural_only=natural_only, none_label=none_label)
    for each in (path, *more):
        pairs.read(each)
    return pairs.result()


def read_natural_pairs(path: Path) -> Pairs:
    """Return the natural pairs of a file, duplicates and non-duplicates: those to measure on.

    Raises as `read_pairs` does, and PairsError where the pairs are all of one kind.
    """
    pairs = read_pairs(path, natural_only=True)
    if pairs.labels.all() or not pairs.labels.any():
        raise PairsError(path, "needs both duplicates and non-duplicates to measure on")
    return pairs


def read_groups(path: Path) -> LabelledTexts:
    """Return the texts of a file with columns text, label and perhaps split, as they stand there.

    Texts that are blank, over-long or without a label are left out and listed in `dropped`.
    Raises PairsError, with the line, where the file is missing or malformed or nothing is left.
    """
    table = open_table(path)
    need_columns(table, GROUP_COLUMNS)
    kept: list[tuple[str, str, str]] = []
    dropped: list[Dropped] = []
    for line, text, label, part in labelled_rows(table):
        reason = unfit(text) or (None if label else "unlabelled")
        if reason:
            dropped.append(Dropped(reason, path, line, (text,)))
        else:
            kept.append((text, label, part))
    if not kept:
        raise PairsError(path, nothing_left("text", dropped))
    texts, labels, splits = zip(*kept, strict=True)
    split = splits if "split" in table.names else ()
    return LabelledTexts(texts, labels, split, sha256(path), tuple(dropped))


def read_texts(path: Path, limit: int | None = None) -> list[str]:
    """Return the first `limit` texts: a file's column `text`, or the lines of a `.txt`.

    They are stripped; those that are blank or over-long are passed over, as there are always more
    texts without labels. Raises PairsError as `read_pairs` does.
    """
    rows: Iterable[tuple[int, str]]
    if ending(path) == ".txt":
        check_file(path)
        rows = ((line, text.strip()) for line, text in read_lines(path))
    else:
        table = open_table(path)
        need_columns(table, ("text",))
        rows = ((line, as_text(table, line, value)) for line, (value,) in table.read(["text"]))
    texts: list[str] = []
    for _, text in rows:
        if limit is not None and len(texts) >= limit:
            return texts
        if not unfit(text):
            texts.append(text)
    if not texts:
        raise PairsError(path, "has no texts; it needs at least one that is not blank")
    return texts
