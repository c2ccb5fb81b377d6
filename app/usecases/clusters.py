"""All groups of duplicates inside a collection, of one moment, as a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Collection, Filter
from app.domain.errors import CollectionNotFound, JobNotFound, TooLarge
from app.domain.jobs import Job
from app.domain.ports import AnchorStore, VectorIndex, VectorView
from app.domain.verdicts import Verdict
from app.usecases.grouping import Criteria, Group, Grouping, Text, firsts, only
from app.usecases.jobs import Running
from app.usecases.matching import Judge

KIND = "clusters"
# About a kilobyte each is held while the job runs, besides the index.
ANCHORS_LIMIT = 1_000_000
# Characters of their texts, ids and labels: all are held meanwhile, and come again in the result.
CHARACTERS_LIMIT = 200_000_000
# Anchors read between two looks whether somebody waits.
READ_TOGETHER = 200


@dataclass(frozen=True, slots=True)
class Options:
    """Which groups are wanted.

    where: which anchors count. min_size: anchors a group has at least, 2 and more.
    verdict: what puts an anchor into a group, `duplicate` or `review`.
    """

    where: Filter = Filter()  # noqa: RUF009 - it never changes
    min_size: int = 2
    verdict: Verdict = Verdict.DUPLICATE

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "filter": {"label": self.where.label, "metadata": dict(self.where.metadata)},
            "min_size": self.min_size,
            "verdict": self.verdict.value,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        """Return the options that a job was made with."""
        where = Filter(data["filter"]["label"], data["filter"]["metadata"])
        return cls(where, data["min_size"], Verdict(data["verdict"]))


@dataclass(frozen=True, slots=True)
class Member:
    """What is kept of an anchor while its collection is grouped."""

    id: str
    label: str | None


@dataclass(frozen=True, slots=True)
class FindClusters:
    """Finds all groups of duplicates inside a collection.

    Of anchors that could be canonical, the one with the smallest id is: what is found does not
    depend on the order in which anchors were registered.
    """

    store: AnchorStore
    index: VectorIndex
    judge: Judge
    encoder: str
    threads: int = 1

    @property
    def shares(self) -> Mapping[str, float]:
        """Return the steps in their order, with the share of the whole time each takes."""
        return {
            "reading": 0.05,
            "arranging": 0.05,
            "searching": 0.8,
            "grouping": 0.05,
            "writing": 0.05,
        }

    def __call__(self, job: Job, running: Running) -> Mapping[str, Any]:
        """Emit a line of JSON for every group, the largest first; return the counts."""
        options = Options.from_json(job.options)
        collection = self._collection(job)
        moment = datetime.now(UTC)
        view, held, anchors = self._snapshot(collection, options.where, running)
        anchors.sort(key=lambda anchor: anchor[1].id)
        texts, members = [text for text, _ in anchors], [member for _, member in anchors]
        standard = self.judge.standard_of(collection)
        running.step("arranging", 0, 1)
        # A row that is no text's first would take the place of a neighbour.
        units = np.array([text.seq for text in firsts(texts)], np.int64)
        view = only(view, units, held).compacted(running.pause)
        criteria = Criteria(self.judge, standard, options.verdict)
        grouping = Grouping(view, texts, criteria, running, self.threads)
        groups = [group for group in grouping() if len(group) >= options.min_size]
        for place, group in enumerate(groups):
            running.step("writing", place, len(groups))
            running.emit(_line(group, texts, members))
        cut_offs = standard.cut_offs
        return {
            "anchors": len(texts),
            "groups": len(groups),
            "duplicates": sum(len(group.members) for group in groups),
            "as_of": moment.isoformat(),
            "encoder": self.encoder,
            "duplicate_at": cut_offs.duplicate_at,
            "review_at": cut_offs.review_at,
        }

    def _collection(self, job: Job) -> Collection:
        try:
            collection = self.store.collection(job.collection_name)
        except CollectionNotFound:
            raise JobNotFound(job.id) from None
        if collection.key != job.collection:
            raise JobNotFound(job.id)  # another one of the same name
        return collection

    def _snapshot(
        self, collection: Collection, where: Filter, running: Running
    ) -> tuple[VectorView, NDArray[np.int64], list[tuple[Text, Member]]]:
        """Return a collection's vectors, their seqs, and the anchors wanted, all of one moment."""
        view = self.index.view(collection.key)
        anchors: list[tuple[Text, Member]] = []
        with self.store.read() as rows:
            seqs, newer = rows.select(collection.key, where, limit=None, after=view.seq)
            if len(seqs) > ANCHORS_LIMIT:
                raise TooLarge(
                    f"{len(seqs)} anchors, and a job takes {ANCHORS_LIMIT}: narrow it by a filter"
                )
            held = seqs
            if where != Filter():
                held, _ = rows.select(collection.key, Filter(), limit=None, after=view.seq)
            # The database may be a commit ahead of the view; the log says what that changed.
            view = view.apply(newer)
            characters = 0
            for start in range(0, len(seqs), READ_TOGETHER):
                running.step("reading", start, len(seqs))
                some = seqs[start : start + READ_TOGETHER].tolist()
                for text, member in map(_kept, rows.by_seq(some).values()):
                    characters += len(text.text) + len(member.id) + len(member.label or "")
                    anchors.append((text, member))
                if characters > CHARACTERS_LIMIT:
                    raise TooLarge(
                        f"more than {CHARACTERS_LIMIT} characters in {len(anchors)} of "
                        f"{len(seqs)} anchors, and a job takes no more: narrow it by a filter"
                    )
        return view, held, anchors


def _kept(anchor: Anchor) -> tuple[Text, Member]:
    text = Text(anchor.seq, anchor.text, anchor.fingerprint)
    return text, Member(anchor.id, anchor.label)


def _line(group: Group, texts: list[Text], members: list[Member]) -> str:
    """Return a group as JSON."""

    def shown(place: int) -> dict[str, Any]:
        member = members[place]
        return {"id": member.id, "text": texts[place].text, "label": member.label}

    return json.dumps(group.to_json(shown), ensure_ascii=False, separators=(",", ":"))
