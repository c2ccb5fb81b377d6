"""What judging costs a lookup, and how many candidates it has to look at.

    python benchmarks/judging.py dev.tsv.gz --anchors 10000 --questions 400

Anchors and questions are texts of a file of pairs. Time is that of the thread's own work in
milliseconds a lookup of 10 matches: `head` with fetching its vectors; evidence `cold`, with
every text seen for the first time, and `warm`, with the analyses of all texts kept. Agreement: how
often the first match, and all ten, are those found out of 200 candidates.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from app import DEFAULT_ENCODER
from app.domain.anchors import DEFAULT_COLLECTION, Draft, encoded_draft
from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.cache import CachedEncoder
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.index.faiss_index import FaissIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases.filtered import Filtered
from app.usecases.lookup import FURTHER, Asked, Lookup
from app.usecases.matching import Judge, Question
from training.data import read_natural_pairs
from training.encoders import ArtifactEncoder

LIMIT = 10
FURTHERS = (0, 5, 10, 20, 40)
MOST = 200


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--artifact", default=DEFAULT_ENCODER)
    parser.add_argument("--anchors", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=400)
    chosen = parser.parse_args()
    artifact = load_artifact(find_artifact(chosen.artifact))
    texts = read_natural_pairs(chosen.pairs).texts
    order = np.random.default_rng(0).permutation(len(texts))
    anchors = [texts[place] for place in order[chosen.questions :][: chosen.anchors]]
    questions = [texts[place] for place in order[: chosen.questions]]
    encoder = ArtifactEncoder(artifact)
    vectors = encoder.encode([*questions, *anchors])
    asked = [Question.of(text, vector) for text, vector in zip(questions, vectors, strict=False)]
    store = MemoryAnchorStore(artifact.fingerprint)
    index = FaissIndex(
        Path("/nonexistent"), vectors.shape[1], encoder=artifact.fingerprint, store=store.identity
    )
    with store.write() as rows:
        puts = [
            (f"a{place}", encoded_draft(Draft(text, f"a{place}"), vector, truncated=False))
            for place, (text, vector) in enumerate(
                zip(anchors, vectors[len(questions) :], strict=True)
            )
        ]
        index.apply(1, [change for put in puts for change in rows.put(1, [put])])
    view = index.view(1)
    near = [view.search(question.vector, MOST) for question in asked]
    judge = Judge(artifact.calibration, head_of(artifact), unknown_to(artifact))

    known = CachedEncoder(OnnxEncoder(artifact), len(questions))

    def first(place: int, further: int) -> list[int]:
        lookup = Lookup(known, store, index, judge, Filtered(store), further=further)
        matches = lookup(DEFAULT_COLLECTION, Asked(asked[place].text, LIMIT)).matches
        return [match.anchor.seq for match in matches]

    def timed(place: int, further: int) -> tuple[float, float, float]:
        """Return the milliseconds of the head, of evidence anew, and of evidence again."""
        some = near[place].kept(np.arange(min(LIMIT + further, len(near[place].seqs))))
        began = time.thread_time()
        bases = judge.bases(asked[place], some)
        took = [time.thread_time() - began]
        best = sorted(range(len(bases)), key=lambda each: -bases[each])[:LIMIT]
        texts = [anchors[int(some.seqs[each]) - 1] for each in best]
        judge.scorer.forget()
        for _ in range(2):
            began = time.thread_time()
            for text in texts:
                judge.scorer.evidence(asked[place].text, text)
            took.append(time.thread_time() - began)
        return 1e3 * took[0], 1e3 * took[1], 1e3 * took[2]

    best = [first(place, MOST - LIMIT) for place in range(len(asked))]
    print(f"{len(anchors):,} anchors, {len(asked)} questions, limit {LIMIT}")
    print(f"{'further':>8}{'first':>8}{'all ten':>9}{'head ms':>9}{'cold ms':>9}{'warm ms':>9}")
    for further in FURTHERS:
        answers = [first(place, further) for place in range(len(asked))]
        same = statistics.mean(a[:1] == b[:1] for a, b in zip(answers, best, strict=True))
        whole = statistics.mean(set(a) == set(b) for a, b in zip(answers, best, strict=True))
        times = zip(*[timed(place, further) for place in range(len(asked))], strict=True)
        head, cold, warm = (statistics.median(each) for each in times)
        mark = "  <- the service" if further == FURTHER else ""
        print(f"{further:>8}{same:>8.1%}{whole:>9.1%}{head:>9.3f}{cold:>9.3f}{warm:>9.3f}{mark}")


if __name__ == "__main__":
    main()
