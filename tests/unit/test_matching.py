"""The judge: one function of similarity, evidence and head behind every probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.domain.anchors import (
    Change,
    Collection,
    CollectionSettings,
    Filter,
    Match,
    encoded_draft,
)
from app.domain.anchors import Draft as DraftOf
from app.domain.calibration import Calibration, Correction, CutOff, logistic, logit
from app.domain.evidence.pair import NAMES
from app.domain.ports import Encoded
from app.domain.scoring import Scorer
from app.domain.verdicts import Verdict
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases.filtered import Filtered
from app.usecases.lookup import Asked, Lookup
from app.usecases.matching import CANDIDATES, Judge, Question, Standard
from tests.unit.fakes import DIMENSION, WordEncoder

WEIGHTS = {name: -1.0 - place / 4 for place, name in enumerate(NAMES)}
CALIBRATION = Calibration(
    intercept=-6.0,
    slope=9.0,
    base_rate=0.4,
    population="made up",
    pairs=100,
    cut_offs_table=(CutOff(0.2, 0.5, 0.96), CutOff(0.8, 0.85, 0.6)),
    evidence=WEIGHTS,
    head=0.7,
)
# Some evidence speaks for a duplicate here, as in no calibration that is shipped.
FAVOURED = dict(zip(NAMES, (1.5, -1.0) * len(NAMES), strict=False))
DEFAULTS = CollectionSettings()
SHARED = Collection(1, "shared", DEFAULTS, datetime.now(UTC), datetime.now(UTC))
TEXTS = st.sampled_from(
    [
        "How do I enable wifi?",
        "How do I disable wifi?",
        "How do I enable wifi 2?",
        "Is wifi not enabled?",
        "How do I connect Paris to Rome?",
        "How do I connect Rome to Paris?",
        "why wifi",
        "when wifi",
        "Who lives in Paris?",
        "Who lives in Rome 3?",
    ]
)
PROBABILITIES = st.floats(0.0, 1.0)


class SignHead:
    """Scores by the first components of both vectors."""

    def scores(
        self, vectors: NDArray[np.float32], others: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return four times their product."""
        return np.asarray(4 * vectors[:, 0] * others[:, 0].astype(np.float32), np.float32)


def question(text: str, seed: int = 1) -> Question:
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return Question.of(text, vector / np.float32(np.linalg.norm(vector)))


JUDGE = Judge(CALIBRATION, SignHead())
JUDGES = st.sampled_from([JUDGE, Judge(replace(CALIBRATION, evidence=FAVOURED), SignHead())])


@given(TEXTS, TEXTS, st.floats(-1, 1), st.floats(-1, 1))
def test_probability_is_monotone_in_similarity(
    left: str, right: str, one: float, other: float
) -> None:
    """With evidence and head's score fixed, more alike is never less likely."""
    low, high = sorted([one, other])
    standard = JUDGE.standard(DEFAULTS)
    pair = question(left, 1), question(right, 2)
    assert JUDGE.of_pair(*pair, low, standard)[0] <= JUDGE.of_pair(*pair, high, standard)[0]


@given(TEXTS, TEXTS, st.floats(-1, 1))
def test_a_pair_has_one_probability(left: str, right: str, similarity: float) -> None:
    """Whichever text is the question."""
    one, other = question(left, 1), question(right, 2)
    standard = JUDGE.standard(DEFAULTS)
    there = JUDGE.of_pair(one, other, similarity, standard)
    back = JUDGE.of_pair(other, one, similarity, standard)
    assert there[0] == pytest.approx(back[0], rel=1e-6)


@given(TEXTS, TEXTS, st.floats(-1, 1), PROBABILITIES, PROBABILITIES)
def test_the_verdict_follows_the_cut_offs(
    left: str, right: str, similarity: float, one: float, other: float
) -> None:
    """At or above `duplicate_at` a duplicate, at or above `review_at` worth a look, else distinct.

    Texts of equal fingerprint are duplicates whatever the cut-offs are.
    """
    low, high = sorted([one, other])
    standard = JUDGE.standard(CollectionSettings(duplicate_at=high, review_at=low))
    probability, verdict = JUDGE.of_pair(
        question(left, 1), question(right, 2), similarity, standard
    )
    if left == right or probability >= high:
        expected = Verdict.DUPLICATE
    else:
        expected = Verdict.REVIEW if probability >= low else Verdict.DISTINCT
    assert verdict is expected


def test_a_base_rate_shifts_every_probability() -> None:
    """The log odds move by logit(own) - logit(fitted), and so do the cut-offs from aims."""
    plain, own = JUDGE.standard(DEFAULTS), JUDGE.standard(CollectionSettings(base_rate=0.1))
    shift = logit(0.1) - logit(0.4)
    before, _ = JUDGE.of_log_odds(0.3, plain)
    after, _ = JUDGE.of_log_odds(0.3, own)
    assert logit(after) == pytest.approx(logit(before) + shift)
    assert logit(own.cut_offs.review_at) == pytest.approx(logit(0.2) + shift)


def test_a_collections_own_correction_comes_after_its_base_rate() -> None:
    """First the shift, then the line."""
    line = Correction(0.5, 0.8)
    settings = CollectionSettings(base_rate=0.1)
    found = JUDGE.standard_of(replace(SHARED, settings=settings, correction=line))
    assert found.correction(1.0) == pytest.approx(line(1.0 + logit(0.1) - logit(0.4)))


def test_an_explanation_adds_up_to_the_probability() -> None:
    """Intercept and contributions make the log odds, the correction's line the probability."""
    pair = question("How do I enable wifi 2?", 1), question("How do I disable wifi?", 2)
    standard = JUDGE.standard(CollectionSettings(base_rate=0.1))
    why = JUDGE.explain_pair(*pair, 0.9, standard)
    assert [piece.name for piece in why.pieces] == [
        "similarity", "head", "opposite", "number_alone",
    ]  # fmt: skip
    total = why.intercept + sum(piece.contribution for piece in why.pieces)
    assert why.log_odds == pytest.approx(total)
    assert why.corrected == pytest.approx(total + logit(0.1) - logit(0.4))
    assert JUDGE.of_pair(*pair, 0.9, standard)[0] == pytest.approx(logistic(why.corrected))
    assert why.cut_offs == standard.cut_offs


class World:
    """Anchors of random vectors in memory, and how the judge sees them without short cuts."""

    def __init__(self, texts: list[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.store, self.index = MemoryAnchorStore("e"), MemoryIndex(DIMENSION)
        base = rng.normal(size=DIMENSION)
        with self.store.write() as rows:
            changes: list[Change] = []
            for place, text in enumerate(texts):
                vector = (base + rng.normal(size=DIMENSION) * 0.4).astype(np.float32)
                # Some are the very texts that are asked, beside those that only look like them.
                draft = DraftOf(f"{text} {place % 7}" if place % 3 else text, f"a{place}")
                encoded = encoded_draft(draft, vector / np.linalg.norm(vector), truncated=False)
                changes += rows.put(1, [(f"a{place}", encoded)])
        self.index.apply(1, changes)
        self.vector = (base / np.linalg.norm(base)).astype(np.float32)


class Fixed(WordEncoder):
    """Gives every text the same vector."""

    def __init__(self, vector: NDArray[np.float32]) -> None:
        super().__init__()
        self._given = vector

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the vector as often as there are texts."""
        ones = (1,) * len(texts)
        return Encoded(np.stack([self._given] * len(texts)), ones, (False,) * len(texts))


def judged(
    judge: Judge, world: World, asked: Question, standard: Standard, count: int
) -> list[Match]:
    """Return the nearest anchors as matches, every one of them judged, the best first."""
    view = world.index.view(1)
    hits = view.search(asked.vector, count)
    rows = world.store.by_seq(hits.seqs.tolist())
    found = []
    for seq, similarity in zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True):
        other = Question(rows[seq].text, view.vectors(np.array([seq]))[0], rows[seq].fingerprint)
        found.append(
            Match(rows[seq], similarity, *judge.of_pair(asked, other, similarity, standard))
        )
    return sorted(found, key=lambda one: (-one.probability, -one.similarity, one.anchor.seq))


# So many that some candidates are not read at first.
crowded = st.builds(World, st.lists(TEXTS, min_size=20, max_size=70), st.integers(0, 10**6))
worlds = st.builds(World, st.lists(TEXTS, min_size=1, max_size=70), st.integers(0, 10**6))


@settings(max_examples=60)
@given(JUDGES, crowded, TEXTS, st.integers(1, 6))
def test_reading_only_what_may_win_changes_nothing(
    judge: Judge, world: World, text: str, limit: int
) -> None:
    """The first matches are those of judging every candidate."""
    lookup = Lookup(
        Fixed(world.vector), world.store, world.index, judge, Filtered(world.store), further=70
    )
    every = judged(judge, world, Question.of(text, world.vector), judge.standard(DEFAULTS), 70)
    assert lookup("default", Asked(text, limit)).matches == every[:limit]


@settings(max_examples=60)
@given(JUDGES, worlds, TEXTS, st.floats(0.02, 0.98))
def test_find_duplicate_misses_none_of_the_nearest(
    judge: Judge, world: World, text: str, duplicate_at: float
) -> None:
    """What it reads before it decides is cut by similarity and head, and still none is missed."""
    own = CollectionSettings(duplicate_at=duplicate_at, review_at=0.0)
    collection = replace(SHARED, settings=own, correction=Correction(0.3, 1.2))
    asked, view = Question.of(text, world.vector), world.index.view(1)
    standard = judge.standard_of(collection)
    same = [
        match
        for match in judged(judge, world, asked, standard, 70)
        if match.anchor.fingerprint == asked.fingerprint
    ]
    every = same or judged(judge, world, asked, standard, CANDIDATES)
    best = every[0] if every and every[0].verdict is Verdict.DUPLICATE else None
    assert judge.find_duplicate(asked, view, world.store, collection) == best


def test_evidence_brings_a_farther_anchor_to_the_front() -> None:
    """The nearest says the opposite; the one that asks the same is found though only one is asked.

    It would not be, were no more candidates judged than matches asked for.
    """
    encoder = WordEncoder()
    store, index = MemoryAnchorStore(encoder.fingerprint), MemoryIndex(DIMENSION)
    vector = encoder.encode(["enable wifi"]).vectors[0]
    turned = vector + np.float32(0.1) * np.eye(DIMENSION, dtype=np.float32)[0]
    with store.write() as rows:
        near = encoded_draft(DraftOf("disable wifi", "near"), vector, truncated=False)
        far = encoded_draft(
            DraftOf("to enable wifi please", "far"),
            turned / np.linalg.norm(turned),
            truncated=False,
        )
        index.apply(1, rows.put(1, [("near", near), ("far", far)]))
    judge = Judge(replace(CALIBRATION, head=0.0))
    for further, first in ((20, "far"), (0, "near")):
        lookup = Lookup(encoder, store, index, judge, Filtered(store), further=further)
        for where in (Filter(), Filter(metadata={})):
            answer = lookup("default", Asked("enable wifi", limit=1, where=where))
            assert [match.anchor.id for match in answer.matches] == [first]


def test_a_head_without_a_weight_is_not_asked() -> None:
    """Vectors are fetched only where something looks at them."""
    assert JUDGE.scorer.needs_vectors
    assert not Judge(replace(CALIBRATION, head=0.0), SignHead()).scorer.needs_vectors
    assert not Judge(CALIBRATION).scorer.needs_vectors


def test_few_analyses_of_long_texts_are_kept() -> None:
    """They take ten times the memory, and must not push out those of short ones either."""
    read: list[str] = []

    def unknown(text: str) -> frozenset[str]:
        read.append(text)
        return frozenset()

    scorer = Scorer(CALIBRATION, unknown=unknown)
    scorer.analysis("Où?")
    for place in [*range(513), 512, 0]:
        scorer.analysis(f"où {place} " + "x" * 400)
    scorer.analysis("Où?")
    assert [text[:5].strip() for text in read[-2:]] == ["où 51", "où 0"]
    assert len(read) == 515
    scorer.forget()
    scorer.analysis("Où?")
    assert read[-1] == "Où?"
