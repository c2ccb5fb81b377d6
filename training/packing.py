"""Leave padding out of the linear layers of an exported encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx.helper import make_node

from training.attention import GatheredAttention
from training.errors import TrainingError
from training.graph_edit import GraphEditor

if TYPE_CHECKING:
    from collections.abc import Mapping

_IDS, _MASK = "input_ids", "attention_mask"


def pack_tokens(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph, inputs and output as before, whose linear layers see no padding.

    The tokens of all texts become one list, (tokens, dim), as the graph starts. Attention gathers
    the rows of each head from it (`training/attention.py`), and for pooling they are laid out as
    (texts, longest, dim); there padding holds a copy of its text's last token, which a mask keeps
    out. Padding must be on the right, and every text must have a token.
    Raises TrainingError for a graph without the parts of `export_graph`'s for BERT, and for one
    that was packed before.
    """
    editor = GraphEditor(model)
    positions = {
        node.input[1]
        for node in editor.nodes
        if node.op_type == "Gather" and "position_embeddings" in node.input[0]
    }
    norms = [node for node in editor.nodes if node.op_type == "LayerNormalization"]
    attentions = [node for node in editor.nodes if node.op_type == "MultiHeadAttention"]
    products = {
        node.name: split.input[0]
        for node in attentions
        if (split := editor.producer(node.input[0])) is not None and split.op_type == "Split"
    }
    if len(positions) != 1 or not norms or not attentions or len(products) != len(attentions):
        raise TrainingError(
            "cannot leave padding out of this graph: not an exported BERT's, or packed already"
        )
    renamed = {_IDS: "packed.ids", positions.pop(): "packed.position"}
    states = norms[-1].output[0]
    attention = GatheredAttention(editor, *_shape(editor, attentions[0], norms[-1]))

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if node.name in products:
            return attention.attend(node.name, products[node.name], node.output[0])
        fresh = _renamed(node, renamed)
        if node.output[0] == states:
            return [fresh, make_node("Gather", [states, "packed.token"], ["packed.states"])]
        return [_renamed(fresh, {states: "packed.states"})]

    editor.rewrite(replace)
    start = [*_start(editor), *attention.start(_MASK, "packed.token", "packed.place")]
    body = editor.nodes
    del editor.model.graph.node[:]
    editor.model.graph.node.extend([*start, *body])
    return editor.finish()


def _shape(editor: GraphEditor, attention: onnx.NodeProto, norm: onnx.NodeProto) -> tuple[int, int]:
    """Return how many heads attention has and how many components each."""
    count = next(item.i for item in attention.attribute if item.name == "num_heads")
    return count, len(editor.constant(norm.input[1])) // count


def _start(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Return the nodes that find the tokens.

    packed.ids and packed.position: (tokens,); packed.place: (tokens, 1), among all places of the
    texts, one after another; packed.token: (texts, longest), which token is where, in padding the
    last one before it.
    """
    editor.add_constant("packed.flat", np.array([-1], dtype=np.int64))
    editor.add_constant("packed.zero", np.int64(0))
    editor.add_constant("packed.one", np.int64(1))
    return [
        make_node("NonZero", [_MASK], ["packed.found"]),
        make_node("Gather", ["packed.found", "packed.one"], ["packed.position"]),
        make_node("Reshape", [_MASK, "packed.flat"], ["packed.mask"]),
        make_node("NonZero", ["packed.mask"], ["packed.places"]),
        make_node("Transpose", ["packed.places"], ["packed.place"], perm=[1, 0]),
        make_node("Reshape", [_IDS, "packed.flat"], ["packed.all"]),
        make_node("GatherND", ["packed.all", "packed.place"], ["packed.ids"]),
        make_node("CumSum", ["packed.mask", "packed.zero"], ["packed.count"]),
        make_node("Sub", ["packed.count", "packed.one"], ["packed.number"]),
        make_node("Shape", [_MASK], ["packed.shape"]),
        make_node("Reshape", ["packed.number", "packed.shape"], ["packed.token"]),
    ]


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy of a node that reads other values."""
    fresh = onnx.NodeProto()
    fresh.CopyFrom(node)
    fresh.input[:] = [names.get(name, name) for name in node.input]
    return fresh
