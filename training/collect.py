"""Pairs collected from the rows of files: texts made one, what is unfit set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from app.domain.text import canonical_form
from training.errors import PairsError
from training.fields import Unfit, as_flag, as_text, labelled_rows, pair_columns, unfit
from training.pairs import Dropped, Pairs, Reason, Source, nothing_left
from training.tables import Table, open_table, sha256

# Places of texts that have none.
_UNFIT: Mapping[int, Unfit] = {-1: "blank", -2: "over-long"}
_PLACE = {reason: place for place, reason in _UNFIT.items()}


class Collector:
    """Pairs on their way out of files: texts made one, unfit pairs set aside."""

    def __init__(self, *, natural_only: bool, none_label: str) -> None:
        self._natural_only = natural_only
        self._none_label = none_label
        self._places: dict[str, int] = {}  # by spelling
        self._forms: dict[str, int] = {}  # by canonical form
        self._texts: list[str] = []
        self._rows: dict[tuple[int, int], int] = {}  # by the pair's places, the lower first
        self._ends: list[tuple[int, int]] = []
        self._labels: list[bool] = []
        self._natural: list[bool] = []
        self._origins: list[tuple[int, int]] = []
        self._sources: list[Source] = []
        self._dropped: list[Dropped] = []

    def read(self, path: Path) -> None:
        """Add the pairs of a file. Raises as `data.read_pairs` does."""
        table = open_table(path)
        self._sources.append(Source(path, sha256(path)))
        columns = pair_columns(table)
        rows = self._read_pairs(table, columns) if columns else self._read_groups(table)
        if not rows:
            raise PairsError(path, "has a header and no rows; add rows below it")

    def result(self) -> Pairs:
        """Return the pairs of all files read. Raises PairsError where there are none."""
        path = self._sources[0].path
        if not self._labels:
            if self._natural_only and not self._dropped:
                raise PairsError(path, "has no natural pair; measuring needs some")
            raise PairsError(path, nothing_left("pair", self._dropped))
        ends = np.array(self._ends, dtype=np.int64)
        pairs = Pairs(
            texts=tuple(self._texts),
            left=ends[:, 0],
            right=ends[:, 1],
            labels=np.array(self._labels, dtype=np.bool_),
            natural=np.array(self._natural, dtype=np.bool_),
            fingerprint=sha256(*(source.path for source in self._sources)),
            dropped=tuple(self._dropped),
            sources=tuple(self._sources),
            origins=np.array(self._origins, dtype=np.int64),
        )
        return pairs.take(np.arange(len(pairs)))

    def _read_pairs(self, table: Table, columns: tuple[str, ...]) -> int:
        """Add the pairs of a table; return how many rows it has."""
        count = 0
        has_natural = "natural" in table.names
        for line, values in table.read([*columns, "natural"] if has_natural else columns):
            count += 1
            text1, text2 = as_text(table, line, values[0]), as_text(table, line, values[1])
            label = as_flag(table, line, columns[2], values[2])
            natural = not has_natural or as_flag(table, line, "natural", values[3])
            self._add(text1, text2, label, natural, line)
        return count

    def _read_groups(self, table: Table) -> int:
        """Add the pairs of labelled groups; return how many rows the table has."""
        count = 0
        has_split = "split" in table.names
        rows_of: dict[int, list[tuple[int, str, str]]] = {}
        for line, text, label, split in labelled_rows(table):
            count += 1
            place = self._place(text)
            if has_split and split != "train":
                self._drop("other split", line, text)
            elif place < 0:
                self._drop(_UNFIT[place], line, text)
            elif label in {"", self._none_label}:
                self._drop("unlabelled", line, text)
            else:
                rows_of.setdefault(place, []).append((line, text, label))
        self._chain(rows_of.values())
        return count

    def _chain(self, rows_of: Iterable[list[tuple[int, str, str]]]) -> None:
        """Add duplicates out of the rows (line, text, label) of each text."""
        groups: dict[str, list[tuple[int, str]]] = {}
        for rows in rows_of:
            line, text, label = rows[0]
            several = len({row[2] for row in rows}) > 1
            if not several:
                groups.setdefault(label, []).append((line, text))
            for again, spelling, _ in rows if several else rows[1:]:
                self._drop("contradiction" if several else "repeated", again, spelling)
        for members in groups.values():
            if len(members) == 1:
                self._drop("alone", *members[0])
            for (_, text1), (line, text2) in pairwise(members):
                self._add(text1, text2, label=True, natural=False, line=line)

    def _add(self, text1: str, text2: str, label: bool, natural: bool, line: int) -> None:
        if self._natural_only and not natural:
            return
        ends = left, right = self._place(text1), self._place(text2)
        if left < 0 or right < 0:
            self._drop(_UNFIT[max(place for place in ends if place < 0)], line, text1, text2)
            return
        if left == right:
            self._drop("self-pair", line, text1, text2)
            return
        origin = len(self._sources) - 1, line
        row = self._rows.setdefault((min(ends), max(ends)), len(self._labels))
        if row == len(self._labels):
            self._ends.append(ends)
            self._labels.append(label)
            self._natural.append(natural)
            self._origins.append(origin)
        elif label == self._labels[row]:
            self._natural[row] |= natural
            self._drop("repeated", line, text1, text2)
        elif label:
            # The duplicate takes the place of the non-duplicate that stood before it.
            source, earlier = self._origins[row]
            texts = tuple(self._texts[place] for place in self._ends[row])
            path = self._sources[source].path
            self._dropped.append(Dropped("contradiction", path, earlier, texts))
            self._labels[row], self._natural[row], self._origins[row] = label, natural, origin
        else:
            self._drop("contradiction", line, text1, text2)

    def _place(self, text: str) -> int:
        """Return the place of a text, new or known; one of _UNFIT where it has none."""
        place = self._places.get(text)
        if place is None:
            reason = unfit(text)
            if reason is not None:
                return _PLACE[reason]
            place = self._forms.setdefault(canonical_form(text), len(self._texts))
            if place == len(self._texts):
                self._texts.append(text)
            self._places[text] = place
        return place

    def _drop(self, reason: Reason, line: int, *texts: str) -> None:
        self._dropped.append(Dropped(reason, self._sources[-1].path, line, texts))
