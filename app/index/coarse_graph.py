"""The ONNX graph that compares questions with 8-bit rows, written without the onnx package.

That package takes 31 MB installed and the service needs it for nothing else; a model is nested
fields of a number, or of bytes after their length (Protocol Buffers' wire format). Field numbers
and names are those of onnx.proto3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUESTIONS, WANTED, ADDED = "questions", "wanted", "added"
VALUES, POSITIONS = "values", "positions"

_FLOAT, _UINT8, _INT8, _INT64 = 1, 2, 3, 7  # TensorProto.DataType
_TYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.uint8): _UINT8, np.dtype(np.int8): _INT8}
_IR_VERSION, _OPSET = 8, 17


def coarse_graph(codes: NDArray[np.int8], steps: NDArray[np.float32], middle: int) -> bytes:
    """Return a model that finds the largest inner products of questions with rows.

    codes: (dim, rows), the rows in units of their `steps`, (rows,).
    middle: what stands for 0 in a question's codes.

    The model takes `questions`, (n, dim) uint8; `added`, (rows,) float32, to be added to each row's
    products; `wanted`, (1,) int64. It gives the `wanted` largest sums, `values` (n, wanted)
    float32, and the `positions` of their rows, int64, the largest first.
    """
    rows = len(steps)
    product = _node(
        "MatMulIntegerToFloat",
        [QUESTIONS, "codes", "one", "steps", "middle", "", ADDED],
        ["products"],
        domain="com.microsoft",
    )
    largest = _node("TopK", ["products", WANTED], [VALUES, POSITIONS])
    graph = [
        _bytes(1, product),
        _bytes(1, largest),
        _bytes(2, b"coarse"),
        _bytes(5, _tensor("codes", codes)),
        _bytes(5, _tensor("steps", steps)),
        _bytes(5, _tensor("one", np.array(1, np.float32))),
        _bytes(5, _tensor("middle", np.array(middle, np.uint8))),
        _bytes(11, _value(QUESTIONS, _UINT8, ["n", len(codes)])),
        _bytes(11, _value(ADDED, _FLOAT, [rows])),
        _bytes(11, _value(WANTED, _INT64, [1])),
        _bytes(12, _value(VALUES, _FLOAT, ["n", "wanted"])),
        _bytes(12, _value(POSITIONS, _INT64, ["n", "wanted"])),
    ]
    model = [
        _number(1, _IR_VERSION),
        _bytes(7, b"".join(graph)),
        _bytes(8, _number(2, _OPSET)),
        _bytes(8, _bytes(1, b"com.microsoft") + _number(2, 1)),
    ]
    return b"".join(model)


def _node(operator: str, inputs: list[str], outputs: list[str], *, domain: str = "") -> bytes:
    fields = [_bytes(1, name.encode()) for name in inputs]
    fields += [_bytes(2, name.encode()) for name in outputs]
    return b"".join([*fields, _bytes(4, operator.encode()), _bytes(7, domain.encode())])


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    fields = [_number(1, length) for length in array.shape]
    fields += [_number(2, _TYPES[array.dtype]), _bytes(8, name.encode())]
    return b"".join([*fields, _bytes(9, array.tobytes())])


def _value(name: str, element: int, shape: list[int | str]) -> bytes:
    lengths = [
        _bytes(1, _number(1, length) if isinstance(length, int) else _bytes(2, length.encode()))
        for length in shape
    ]
    tensor = _number(1, element) + _bytes(2, b"".join(lengths))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return seven bits a byte, the lowest first; the highest bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
