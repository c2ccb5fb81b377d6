"""Leave padding out of the linear layers of an exported encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx.helper import make_node

from training.errors import TrainingError
from training.graph_edit import GraphEditor

if TYPE_CHECKING:
    from collections.abc import Mapping

_IDS, _MASK = "input_ids", "attention_mask"
_FLAT = "packed.flat"


def pack_tokens(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph, inputs and output as before, whose linear layers see no padding.

    The tokens of all texts become one list, (tokens, dim), as the graph starts. Around attention
    they are laid out as (texts, longest, dim), where padding holds some token's copy, which the
    mask keeps out; and once more for pooling. Padding must be on the right, and every text must
    have a token.
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
    splits = {
        split.name
        for node in attentions
        if (split := editor.producer(node.input[0])) is not None and split.op_type == "Split"
    }
    whole = len(positions) == 1 and norms and attentions and len(splits) == len(attentions)
    if not whole or editor.has_constant(_FLAT):
        raise TrainingError(
            "cannot leave padding out of this graph: not an exported BERT's, or packed already"
        )
    renamed = {_IDS: "packed.ids", positions.pop(): "packed.position"}
    states = norms[-1].output[0]

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        fresh = _renamed(node, renamed)
        output = node.output[0]
        if node.name in splits:
            laid_out = f"{node.name}.laid_out"
            return [
                _lay_out(node.input[0], laid_out),
                _renamed(fresh, {node.input[0]: laid_out}),
            ]
        if node.op_type == "MultiHeadAttention":
            fresh.output[0] = f"{output}.laid_out"
            return [fresh, make_node("GatherND", [fresh.output[0], "packed.place"], [output])]
        if output == states:
            return [fresh, _lay_out(states, "packed.states")]
        return [_renamed(fresh, {states: "packed.states"})]

    editor.rewrite(replace)
    start = _start(editor)
    body = editor.nodes
    del editor.model.graph.node[:]
    editor.model.graph.node.extend([*start, *body])
    return editor.finish()


def _start(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Return the nodes that find the tokens.

    packed.ids and packed.position: (tokens,); packed.place: (tokens, 2), text and position;
    packed.token: (texts, longest), which token is where, in padding the last one before it.
    """
    editor.add_constant(_FLAT, np.array([-1], dtype=np.int64))
    editor.add_constant("packed.zero", np.int64(0))
    editor.add_constant("packed.one", np.int64(1))
    return [
        make_node("NonZero", [_MASK], ["packed.found"]),
        make_node("Transpose", ["packed.found"], ["packed.place"], perm=[1, 0]),
        make_node("GatherND", [_IDS, "packed.place"], ["packed.ids"]),
        make_node("Gather", ["packed.found", "packed.one"], ["packed.position"]),
        make_node("Reshape", [_MASK, _FLAT], ["packed.mask"]),
        make_node("CumSum", ["packed.mask", "packed.zero"], ["packed.count"]),
        make_node("Sub", ["packed.count", "packed.one"], ["packed.number"]),
        make_node("Shape", [_MASK], ["packed.shape"]),
        make_node("Reshape", ["packed.number", "packed.shape"], ["packed.token"]),
    ]


def _lay_out(source: str, output: str) -> onnx.NodeProto:
    return make_node("Gather", [source, "packed.token"], [output])


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy of a node that reads other values."""
    fresh = onnx.NodeProto()
    fresh.CopyFrom(node)
    fresh.input[:] = [names.get(name, name) for name in node.input]
    return fresh
