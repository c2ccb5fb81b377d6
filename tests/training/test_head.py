"""The head's graph computes what its weights say, the same from either side of a pair."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from app.encoders.head import OnnxHead
from training.calibrate import pair_evidence
from training.head import HeadConfig, head_graph, train_head
from training.metrics import average_precision
from training.pairs import Pairs
from training.vectors import pair_similarities

RNG = np.random.default_rng(4)


def units(count: int, dimension: int) -> NDArray[np.float32]:
    found = RNG.normal(size=(count, dimension))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def test_the_graph_computes_the_network() -> None:
    """relu([10 |u - v|, 100 u v] W + b) o, to the precision of float16 weights."""
    weights = RNG.normal(size=(12, 5)).astype(np.float32)
    bias, out = RNG.normal(size=5).astype(np.float32), RNG.normal(size=5).astype(np.float32)
    head = OnnxHead(head_graph(weights, bias, out))
    one, others = units(1, 6)[0], units(7, 6)
    seen = np.concatenate([10 * np.abs(others - one), 100 * others * one], axis=1)
    expected = np.maximum(seen @ weights + bias, 0) @ out
    assert head.scores(one[np.newaxis], others) == pytest.approx(expected, rel=0.01, abs=0.05)


def some_head() -> OnnxHead:
    shapes = ((12, 5), (5,), (5,))
    return OnnxHead(head_graph(*(RNG.normal(size=shape).astype(np.float32) for shape in shapes)))


def test_a_pair_scores_the_same_from_either_side() -> None:
    """To the last bit: |u - v| and u v do not know which is which."""
    head = some_head()
    one, other = units(1, 6), units(1, 6)
    assert head.scores(one, other) == head.scores(other, one)


def test_a_pair_scores_the_same_among_others() -> None:
    """Stored float16 vectors are taken as they are, and company changes nothing."""
    head = some_head()
    one, others = units(1, 6), units(9, 6).astype(np.float16)
    alone = [float(head.scores(one, other[np.newaxis])[0]) for other in others]
    assert head.scores(one, others).tolist() == pytest.approx(alone, rel=1e-5)


def test_a_graph_of_one_vector_and_others_is_refused() -> None:
    """As they were made before: found out when it is loaded, not by the first lookup."""
    graph = onnx.load_from_string(
        head_graph(np.ones((12, 5), np.float32), np.ones(5, np.float32), np.ones(5, np.float32))
    )
    del graph.graph.input[0].type.tensor_type.shape.dim[0]
    with pytest.raises(ValueError, match="no rows as 'left'"):
        OnnxHead(graph.SerializeToString())


def test_pairs_of_several_texts_share_a_call() -> None:
    """Each row of one side meets the row of the other at its place."""
    head = some_head()
    left, right = units(9, 6), units(9, 6)
    alone = [float(head.scores(left[[place]], right[[place]])[0]) for place in range(9)]
    assert head.scores(left, right).tolist() == pytest.approx(alone, rel=1e-5)


def test_a_head_learns_which_directions_matter() -> None:
    """Pairs are duplicates where the first of eight components agree; the cosine hardly tells."""
    vectors = units(400, 8)
    left, right = RNG.integers(0, 400, (2, 6_000))
    labels = vectors[left, 0] * vectors[right, 0] > 0
    texts = tuple(f"text {place}" for place in range(400))
    every = Pairs(texts, left, right, labels, np.ones(6_000, np.bool_), "")
    pairs, held = every.take(np.arange(5_000)), every.take(np.arange(5_000, 6_000))
    places = {text: place for place, text in enumerate(texts)}
    of_pairs = vectors[[places[text] for text in pairs.texts]]
    of_held = vectors[[places[text] for text in held.texts]]
    config = HeadConfig(hidden=16, epochs=8, batch=64, input_dropout=0.0, dropout=0.0, decay=0.01)
    evidence = pair_evidence(pairs, lambda _: frozenset())
    graph = train_head(of_pairs, pairs, evidence, config)
    head = OnnxHead(graph)
    scores = [
        head.scores(of_held[one][np.newaxis], of_held[other][np.newaxis])[0]
        for one, other in zip(held.left, held.right, strict=True)
    ]
    assert average_precision(pair_similarities(of_held, held), held.labels) < 0.75
    assert average_precision(scores, held.labels) > 0.8
