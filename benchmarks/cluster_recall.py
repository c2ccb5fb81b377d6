"""Pairs of duplicates that a clusters job finds through the graph, of those there are.

    python -m benchmarks.cluster_recall --data ../shared/data --anchors 30000

The first texts of `ballast`, encoded by the shipped artifact, are grouped twice: as a collection
is, through a graph, and exactly, each compared with each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from app.domain.anchors import CollectionSettings
from app.domain.ports import VectorView
from app.domain.text import fingerprint
from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.index.memory import MemoryView
from app.index.segment import hnsw_segment
from app.index.view import FaissView
from app.settings import Settings
from app.usecases.grouping import Criteria, Grouping, Text
from app.usecases.matching import Judge
from benchmarks.texts import ballast


class _Silent:
    def step(self, name: str, done: int, total: int) -> None:
        pass


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--anchors", type=int, default=30_000)
    parser.add_argument("--duplicate-at", type=float, help="in place of the shipped cut-off")
    parser.add_argument("--vectors", type=Path, help="a file that keeps the vectors between runs")
    options = parser.parse_args()
    texts = ballast(options.data, options.anchors)
    artifact = load_artifact(find_artifact(Settings().encoder))
    if options.vectors and options.vectors.exists():
        vectors = np.load(options.vectors)[: options.anchors]
    else:
        encoder = OnnxEncoder(artifact)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors = np.empty((len(texts), encoder.dimension), np.float16)
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            vectors[part] = encoder.encode([texts[place] for place in part]).vectors
        if options.vectors:
            np.save(options.vectors, vectors)
    settings = CollectionSettings(duplicate_at=options.duplicate_at)
    judge = Judge(artifact.calibration, head_of(artifact), unknown_to(artifact))
    criteria = Criteria(judge, judge.standard(settings))
    seqs = np.arange(len(texts))
    listed = [Text(seq, text, fingerprint(text)) for seq, text in enumerate(texts)]
    began = time.process_time()
    segment = hnsw_segment(vectors.shape[1], [(seqs, vectors)], lambda: None)
    print(f"graph          {time.process_time() - began:.0f} s of processor time to build")
    views: dict[str, VectorView] = {
        "graph": FaissView.over(segment, None, len(seqs), 0),
        "exact": MemoryView(seqs, vectors, len(seqs)),
    }
    pairs: dict[str, set[tuple[int, int]]] = {}
    groups: dict[str, set[tuple[int, ...]]] = {}
    for name, view in views.items():
        began = time.process_time()
        grouping = Grouping(view, listed, criteria, _Silent())
        found = grouping()
        taken = time.process_time() - began
        pairs[name] = {(a, b) for a, near in grouping.edges.items() for b in near if a < b}
        groups[name] = {
            (one.canonical, *sorted(member.place for member in one.members)) for one in found
        }
        print(
            f"{name:14} {len(pairs[name]):,} pairs, {len(found):,} groups, "
            f"{taken:.0f} s of processor time"
        )
    recall = len(pairs["graph"] & pairs["exact"]) / max(len(pairs["exact"]), 1)
    same = len(groups["graph"] & groups["exact"]) / max(len(groups["exact"]), 1)
    print(f"recall         {recall:.4f} of the pairs; {same:.4f} of the groups are the same")


if __name__ == "__main__":
    main()
