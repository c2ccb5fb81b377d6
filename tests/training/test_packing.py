"""The packed graph: the same vectors, whatever shares the call."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sentence_transformers import SentenceTransformer

from training.errors import TrainingError
from training.int8 import observe
from training.onnx_graph import export_graph
from training.packing import pack_tokens
from training.vectors import encode_call, encode_rows, open_session

# The shortest that a tokenizer gives, and longer ones of every kind.
LENGTHS = (2, 3, 9, 9, 15, 40, 60)


def _rows() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[2, *rng.integers(5, 200, n - 2).tolist(), 3] for n in LENGTHS]


@pytest.fixture
def graph(tiny_model: SentenceTransformer) -> onnx.ModelProto:
    return export_graph(tiny_model)


def test_packed_vectors_are_the_unpacked_ones(graph: onnx.ModelProto) -> None:
    """Texts of any lengths in one packed call get the vectors they get alone, unpacked."""
    alone = encode_rows(open_session(graph), _rows(), together=False)
    packed = encode_call(open_session(pack_tokens(graph)), _rows())
    np.testing.assert_allclose(packed, alone, atol=1e-6)


def test_order_does_not_matter(graph: onnx.ModelProto) -> None:
    """A text's vector is the same at any place of a call."""
    session = open_session(pack_tokens(graph))
    there = encode_call(session, _rows())
    back = encode_call(session, _rows()[::-1])
    np.testing.assert_allclose(back[::-1], there, atol=1e-6)


def test_linear_layers_see_no_padding(graph: onnx.ModelProto) -> None:
    """A linear layer is given a row a token: 7 + 2, not 2 x 7."""
    packed = pack_tokens(graph)
    name = next(node for node in packed.graph.node if node.op_type == "Gelu").output[0]
    packed.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    ids = np.array([[2, 5, 6, 7, 8, 9, 3], [2, 3, 0, 0, 0, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    (seen,) = open_session(packed).run([name], {"input_ids": ids, "attention_mask": mask})
    assert seen.shape == (9, 64)


def test_padding_weighs_nothing_and_costs_nothing(graph: onnx.ModelProto) -> None:
    """The weight of padding is lost beside a token's, and no subnormal number, which is slow."""
    packed = pack_tokens(graph)
    names = [node.output[0] for node in packed.graph.node if node.op_type == "Softmax"]
    packed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    ids = np.array([[2, 5, 6, 7, 8, 9, 3], [2, 3, 0, 0, 0, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    layers = open_session(packed).run(names, {"input_ids": ids, "attention_mask": mask})
    assert layers
    for weights in layers:
        assert weights.shape == (4, 2, 7, 7)
        padding = weights[:, 1, :2, 2:]
        assert padding.max() < np.finfo(np.float32).eps ** 2
        assert padding.min() > np.finfo(np.float32).tiny


def test_ranges_are_those_of_the_unpacked_graph(graph: onnx.ModelProto) -> None:
    """A channel's least and greatest activation are the same, whichever graph is asked."""
    before, after = observe(graph, _rows()), observe(pack_tokens(graph), _rows())
    assert before.keys() == after.keys()
    for name, seen in before.items():
        assert seen.low.ndim == 1
        np.testing.assert_allclose(after[name].low, seen.low, atol=1e-5)
        np.testing.assert_allclose(after[name].high, seen.high, atol=1e-5)


def test_refuses_other_graphs(graph: onnx.ModelProto) -> None:
    """One already packed is refused, and one without position embeddings or attention."""
    with pytest.raises(TrainingError, match="leave padding out"):
        pack_tokens(pack_tokens(graph))
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Abs", ["x"], ["y"], name="abs")
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_graph([node], "other", [value], [result])
    with pytest.raises(TrainingError, match="leave padding out"):
        pack_tokens(onnx.helper.make_model(other))
