"""Eight-bit forms of an exported encoder.

Weights are int8 with one scale an output channel, word embeddings int8 with one scale a row. They
differ in the scale of the activations, which decides whether a vector depends on its batch:
`static` scales are constants and `row` scales belong to one token each, so it does not; the
`dynamic` ones of ONNX Runtime belong to the whole tensor, so it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.helper import make_node, make_tensor_value_info

from training.graph_edit import MICROSOFT, GraphEditor

_SMALLEST = 1e-5
# What the exporter calls the product behind the pooling: one a text, where other layers have one a
# token, so in full precision it costs nothing; and whitening enlarges what is small.
_IN_FULL = "/product/"


@dataclass(frozen=True, slots=True)
class Range:
    """What a layer's input was seen to reach, channel by channel: low and high, (k,) float32."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def magnitude(self) -> NDArray[np.float64]:
        """The largest absolute value of each channel, (k,), never 0."""
        largest = np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)
        return np.maximum(largest, _SMALLEST)


@dataclass(frozen=True, slots=True)
class _Linear:
    """One `x @ weight + bias` of a graph; output: the value that the bias has been added to."""

    name: str
    source: str
    output: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float32]


def observe(model: onnx.ModelProto, rows: Sequence[Sequence[int]]) -> dict[str, Range]:
    """Return the range of every linear layer's input over token rows, by the input's name."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    names = sorted({layer.source for layer in _linears(GraphEditor(model))[1].values()})
    for name in names:
        probed.graph.output.append(make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        probed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    seen: dict[str, Range] = {}
    for row in rows:
        ids = np.array([row], dtype=np.int64)
        values = session.run(names, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, value in zip(names, values, strict=True):
            axes = tuple(range(value.ndim - 1))
            low, high = value.min(axis=axes), value.max(axis=axes)
            if name in seen:
                low = np.minimum(low, seen[name].low)
                high = np.maximum(high, seen[name].high)
            seen[name] = Range(low, high)
    return seen


def quantise_static(
    model: onnx.ModelProto,
    ranges: dict[str, Range],
    *,
    smoothing: float | None = 0.7,
    weight_limit: int = 127,
) -> onnx.ModelProto:
    """Return the int8 form whose activation scales are constants, set from observed ranges.

    smoothing: 0..1, how much of the spread between channels moves from the activations into the
    weights (SmoothQuant, Xiao et al. 2023, equation 4); None for none of it.
    weight_limit: the largest int8 weight. CPUs with AVX2 or AVX-512 but no VNNI add two products
    of an activation (up to 255) and a weight in 16 bits, which 127 overflows and 64 does not.
    """
    editor = GraphEditor(model)

    def layer(linear: _Linear) -> list[onnx.NodeProto]:
        name, seen, weight = linear.name, ranges[linear.source], linear.weight
        nodes: list[onnx.NodeProto] = []
        source, factor = linear.source, np.ones(len(weight))
        if smoothing is not None:
            rows = np.maximum(np.abs(weight).max(axis=1), _SMALLEST)
            factor = seen.magnitude**smoothing / rows ** (1 - smoothing)
            factor /= np.exp(np.mean(np.log(factor)))
            editor.add_constant(f"{name}.smooth", (1 / factor).astype(np.float32))
            source = f"{name}.smoothed"
            nodes.append(make_node("Mul", [linear.source, f"{name}.smooth"], [source]))
        low = min(float((seen.low / factor).min()), 0.0)
        high = max(float((seen.high / factor).max()), 0.0)
        scale = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        editor.add_constant(f"{name}.scale", scale)
        editor.add_constant(f"{name}.zero", zero)
        editor.add_constant(f"{name}.bias", linear.bias)
        quantised, scales = _add_weight(editor, name, weight * factor[:, None], limit=weight_limit)
        inputs = [source, f"{name}.scale", f"{name}.zero"]
        nodes.append(make_node("QuantizeLinear", inputs, [f"{name}.input"]))
        inputs = [f"{name}.input", quantised, inputs[1], scales, inputs[2], "", f"{name}.bias"]
        nodes.append(_integer_matmul(name, inputs, linear.output))
        return nodes

    return _replace_linears(editor, layer)


def quantise_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the int8 form in which every token's activations have their own scale."""
    editor = GraphEditor(model)
    scale = editor.add_constant("row.scale", np.float32(1 / 127))
    zero = editor.add_constant("row.zero", np.uint8(128))

    def layer(linear: _Linear) -> list[onnx.NodeProto]:
        name, source = linear.name, linear.source
        quantised, scales = _add_weight(editor, name, linear.weight)
        editor.add_constant(f"{name}.bias", linear.bias)
        inputs = [f"{name}.input", quantised, scale, scales, zero]
        return [
            make_node("Abs", [source], [f"{name}.abs"]),
            make_node("ReduceMax", [f"{name}.abs"], [f"{name}.max"], axes=[-1], keepdims=1),
            make_node("Div", [source, f"{name}.max"], [f"{name}.unit"]),
            make_node("QuantizeLinear", [f"{name}.unit", scale, zero], [f"{name}.input"]),
            _integer_matmul(name, inputs, f"{name}.product"),
            make_node("Mul", [f"{name}.product", f"{name}.max"], [f"{name}.scaled"]),
            make_node("Add", [f"{name}.scaled", f"{name}.bias"], [linear.output]),
        ]

    return _replace_linears(editor, layer)


def quantise_blocks(model: onnx.ModelProto, *, bits: int, block: int) -> onnx.ModelProto:
    """Return the form of ONNX Runtime's `MatMulNBits`: one scale a block of a token's activations.

    bits: 4 or 8 of a weight; block: weights, and activations, that share a scale.
    """
    editor = GraphEditor(model)

    def layer(linear: _Linear) -> list[onnx.NodeProto]:
        name = linear.name
        rows, columns = linear.weight.shape
        blocks = -(-rows // block)
        padded = np.zeros((blocks * block, columns))
        padded[:rows] = linear.weight
        grouped = padded.T.reshape(columns, blocks, block)
        half = 1 << (bits - 1)
        scales = np.maximum(np.abs(grouped).max(axis=2), _SMALLEST) / (half - 1)
        packed = (np.rint(grouped / scales[:, :, None]) + half).astype(np.uint8)
        if bits == 4:
            packed = packed[:, :, 0::2] | (packed[:, :, 1::2] << 4)
        editor.add_constant(f"{name}.weight", packed)
        editor.add_constant(f"{name}.scales", scales.astype(np.float32))
        editor.add_constant(f"{name}.bias", linear.bias)
        product = make_node(
            "MatMulNBits",
            [linear.source, f"{name}.weight", f"{name}.scales"],
            [f"{name}.product"],
            domain=MICROSOFT,
            K=rows,
            N=columns,
            bits=bits,
            block_size=block,
            accuracy_level=4,
        )
        return [product, make_node("Add", [f"{name}.product", f"{name}.bias"], [linear.output])]

    return _replace_linears(editor, layer)


def _linears(
    editor: GraphEditor,
) -> tuple[dict[str, str], dict[str, _Linear]]:
    """Return what each linear layer's nodes become part of, and the layers, both by node name.

    A bias added right after belongs to its layer: the integer product adds it for nothing.
    """
    member: dict[str, str] = {}
    layers: dict[str, _Linear] = {}
    for node in editor.nodes:
        if node.op_type != "MatMul" or not editor.has_constant(node.input[1]):
            continue
        if node.name.startswith(_IN_FULL):
            continue
        weight = editor.constant(node.input[1]).astype(np.float64)
        output, bias = node.output[0], np.zeros(weight.shape[1], dtype=np.float32)
        readers = editor.consumers(output)
        if len(readers) == 1 and readers[0].op_type == "Add":
            other = next(name for name in readers[0].input if name != output)
            if editor.has_constant(other) and editor.constant(other).shape == bias.shape:
                bias = editor.constant(other).astype(np.float32)
                output = readers[0].output[0]
                member[readers[0].name] = node.name
        member[node.name] = node.name
        name = node.name.strip("/").replace("/", ".")
        layers[node.name] = _Linear(name, node.input[0], output, weight, bias)
    return member, layers


def _replace_linears(
    editor: GraphEditor, build: Callable[[_Linear], list[onnx.NodeProto]]
) -> onnx.ModelProto:
    """Replace every linear layer by what `build` makes of it, and finish the graph."""
    member, layers = _linears(editor)

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.name not in member:
            return None
        return build(layers[node.name]) if node.name in layers else []

    editor.rewrite(replace)
    _quantise_embeddings(editor)
    return editor.finish()


def _add_weight(
    editor: GraphEditor, name: str, weight: NDArray[np.float64], *, limit: int = 127
) -> tuple[str, str]:
    """Add a (k, n) weight as int8, at most `limit`, with (n,) scales; return the names of both."""
    scales = np.maximum(np.abs(weight).max(axis=0), _SMALLEST) / limit
    quantised = np.rint(weight / scales).astype(np.int8)
    return (
        editor.add_constant(f"{name}.weight", quantised),
        editor.add_constant(f"{name}.scales", scales.astype(np.float32)),
    )


def _integer_matmul(name: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return make_node("MatMulIntegerToFloat", inputs, [output], name=name, domain=MICROSOFT)


def _quantise_embeddings(editor: GraphEditor) -> None:
    """Hold every large table that rows are gathered from as int8, one scale a row."""

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "Gather" or not editor.has_constant(node.input[0]):
            return None
        table = editor.constant(node.input[0])
        if table.ndim != 2 or table.size < 1_000_000:
            return None
        name, places = node.input[0], node.input[1]
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), _SMALLEST) / 127
        editor.add_constant(f"{name}.int8", np.rint(table / scales).astype(np.int8))
        editor.add_constant(f"{name}.scales", scales.astype(np.float32))
        return [
            make_node("Gather", [f"{name}.int8", places], [f"{name}.row"]),
            make_node("Cast", [f"{name}.row"], [f"{name}.float"], to=onnx.TensorProto.FLOAT),
            make_node("Gather", [f"{name}.scales", places], [f"{name}.scale"]),
            make_node("Mul", [f"{name}.float", f"{name}.scale"], [node.output[0]]),
        ]

    editor.rewrite(replace)
