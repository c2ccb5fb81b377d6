"""A pairwise head: a small network over |u - v| and u * v of the two vectors of a pair.

The cosine weighs every direction alike; the head learns which of them matter for asking the same.
It is trained beside the similarity and the evidence, so that it learns what they leave over, and
only what it adds is kept. Half of its inputs are dropped while it learns: what it finds in a few
directions of one domain carries over to others worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.encoders.head import LEFT, RIGHT, SCORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.pairs import Pairs

FEWEST_PAIRS = 10_000
_DIFFERENCE, _PRODUCT = 10.0, 100.0  # about unit size, of unit vectors with some hundred numbers
_START = -8.0, 10.0  # of intercept and similarity, as calibrations have them


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How a head is trained; the defaults are what measured best (docs/decisions)."""

    hidden: int = 128
    epochs: int = 12
    batch: int = 256
    rate: float = 3e-3
    decay: float = 0.1
    input_dropout: float = 0.4
    dropout: float = 0.3
    seed: int = 0


def train_head(
    vectors: NDArray[np.floating[Any]],
    pairs: Pairs,
    evidence: NDArray[np.float64],
    config: HeadConfig = HeadConfig(),
) -> bytes:
    """Return the ONNX graph of a head trained on labelled pairs.

    vectors: (texts, dim), unit length, of `pairs.texts`; evidence: (n, pieces) of the pairs, which
    should be drawn at their population's own base rate.
    """
    import torch
    from torch import nn

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    labels = torch.from_numpy(pairs.labels.astype(np.float32))
    known = torch.from_numpy(evidence.astype(np.float32))
    inputs = 2 * vectors.shape[1]
    linear = nn.Linear(1 + known.shape[1], 1)
    first, last = nn.Linear(inputs, config.hidden), nn.Linear(config.hidden, 1)
    body = nn.Sequential(
        nn.Dropout(config.input_dropout), first, nn.ReLU(), nn.Dropout(config.dropout), last
    )
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0, 0] = _START[1]
        linear.bias.fill_(_START[0])
        last.weight.zero_()
        last.bias.zero_()
    parameters = [*linear.parameters(), *body.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=config.decay)
    steps = config.epochs * -(-len(pairs) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, total_steps=steps)
    body.train()
    for _ in range(config.epochs):
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), config.batch):
            some = order[start : start + config.batch]
            left = torch.from_numpy(vectors[pairs.left[some]].astype(np.float32))
            right = torch.from_numpy(vectors[pairs.right[some]].astype(np.float32))
            seen = torch.cat([(left - right).abs() * _DIFFERENCE, left * right * _PRODUCT], 1)
            cosine = (left * right).sum(1, keepdim=True)
            logits = linear(torch.cat([cosine, known[some]], 1)) + body(seen)
            loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels[some])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return head_graph(
        first.weight.detach().numpy().T,
        first.bias.detach().numpy(),
        last.weight.detach().numpy()[0],
    )


def head_graph(
    weights: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.float32]
) -> bytes:
    """Return the ONNX graph of a head, its weights in float16.

    weights: (2 * dim, hidden), for differences, then products; bias: (hidden,); out: (hidden,).
    The last layer's bias is left out: the calibration has an intercept.
    """
    dimension = len(weights) // 2
    scale = np.repeat(np.array([_DIFFERENCE, _PRODUCT], np.float32), dimension)[:, None]
    packed = {"weights": weights * scale, "bias": bias, "out": out[:, None]}
    nodes = [
        helper.make_node("Cast", [f"{name}16"], [name], to=TensorProto.FLOAT) for name in packed
    ]
    nodes += [
        helper.make_node("Sub", [RIGHT, LEFT], ["apart"]),
        helper.make_node("Abs", ["apart"], ["difference"]),
        helper.make_node("Mul", [RIGHT, LEFT], ["product"]),
        helper.make_node("Concat", ["difference", "product"], ["seen"], axis=1),
        helper.make_node("MatMul", ["seen", "weights"], ["weighed"]),
        helper.make_node("Add", ["weighed", "bias"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "out"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], [SCORE]),
    ]
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(value, np.float16), f"{name}16")
        for name, value in packed.items()
    ]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph = helper.make_graph(
        nodes,
        "head",
        [
            helper.make_tensor_value_info(LEFT, TensorProto.FLOAT, ["m", dimension]),
            helper.make_tensor_value_info(RIGHT, TensorProto.FLOAT, ["n", dimension]),
        ],
        [helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="deja"
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
