"""Attention of a packed graph: every head's rows gathered once, from the list of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto
from onnx.helper import make_node

from training.graph_edit import MICROSOFT, GraphEditor

if TYPE_CHECKING:
    import onnx

# How far below all others the score of padding is put. It holds a copy of a token of its own text,
# so its weight is e^-50 of that token's: nothing beside 1 in float32. Further down, weights become
# numbers so small that processors take a hundred times as long for each (subnormal: below e^-87).
_BELOW = 50.0


class GatheredAttention:
    """Replaces fused attention over texts in rows by plain nodes over the list of tokens.

    Fused attention (`MultiHeadAttention`) wants (texts, longest, dim) and copies it head by head:
    laid out, split, turned. Here one index a head, a place and a text, the same in all layers,
    takes each head's queries, keys and values from the product that made them, (tokens, 3 dim),
    as (heads, texts, longest, head's dim), and another puts the heads' results side by side again.

    count: how many heads; width: components of each.
    """

    def __init__(self, editor: GraphEditor, count: int, width: int) -> None:
        """Add the constants that all layers share."""
        self._count, self._width = count, width
        parts = np.arange(3 * count, dtype=np.int64)
        editor.add_constant("heads.parts", parts.reshape(-1, 1, 1))
        editor.add_constant("heads.a_token", np.int64(3 * count))
        editor.add_constant("heads.each", parts[:count].copy())
        editor.add_constant("heads.narrow", np.array([-1, width], dtype=np.int64))
        editor.add_constant("heads.wide", np.array([-1, count * width], dtype=np.int64))
        editor.add_constant("heads.middle", np.array([1], dtype=np.int64))
        editor.add_constant("heads.below", np.float32(_BELOW))

    def start(self, mask: str, token: str, place: str) -> list[onnx.NodeProto]:
        """Return the nodes that find, once a call, where each head's rows are.

        mask: (texts, longest), 1 for tokens; token: (texts, longest), which token is where;
        place: (tokens, 1), where a token is among all places of the texts, one after another.
        """
        return [
            make_node("Mul", [token, "heads.a_token"], ["heads.first"]),
            make_node("Add", ["heads.first", "heads.parts"], ["heads.rows"]),
            make_node("Split", ["heads.rows"], _each("heads"), axis=0),
            make_node("Size", [mask], ["heads.places"]),
            make_node("Mul", ["heads.each", "heads.places"], ["heads.offset"]),
            make_node("Add", ["heads.offset", place], ["heads.back"]),
            # 50 where both a query and a key are tokens, then 0 there and -50 elsewhere; whole
            # for all places, since a broadcast within rows of ten takes longer than what it adds.
            make_node("Cast", [mask], ["heads.is_token"], to=TensorProto.FLOAT),
            make_node("Unsqueeze", ["heads.is_token", "heads.middle"], ["heads.tokens"]),
            make_node(
                "FusedMatMul",
                ["heads.tokens", "heads.tokens"],
                ["heads.above"],
                domain=MICROSOFT,
                transA=1,
                alpha=_BELOW,
            ),
            make_node("Sub", ["heads.above", "heads.below"], ["heads.bias"]),
        ]

    def attend(self, name: str, product: str, output: str) -> list[onnx.NodeProto]:
        """Return the nodes of one layer's attention, from `product` to `output`, (tokens, dim)."""
        inner = f"{name}.heads"
        return [
            make_node("Reshape", [product, "heads.narrow"], [f"{inner}.all"]),
            *(
                make_node("Gather", [f"{inner}.all", rows], [part])
                for rows, part in zip(_each("heads"), _each(inner), strict=True)
            ),
            make_node(
                "FusedMatMul",
                [f"{inner}.query", f"{inner}.key"],
                [f"{inner}.scores"],
                domain=MICROSOFT,
                transB=1,
                alpha=float(self._width**-0.5),
            ),
            make_node("Add", [f"{inner}.scores", "heads.bias"], [f"{inner}.masked"]),
            make_node("Softmax", [f"{inner}.masked"], [f"{inner}.weights"], axis=-1),
            make_node("MatMul", [f"{inner}.weights", f"{inner}.value"], [f"{inner}.mixed"]),
            make_node("Reshape", [f"{inner}.mixed", "heads.narrow"], [f"{inner}.parts"]),
            make_node("Gather", [f"{inner}.parts", "heads.back"], [f"{inner}.beside"]),
            make_node("Reshape", [f"{inner}.beside", "heads.wide"], [output]),
        ]


def _each(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("query", "key", "value")]
