"""From a sentence-transformers model to one ONNX graph that ends in unit vectors."""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.helper import make_node
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from app.encoders.artifact import OUTPUT
from training.errors import TrainingError
from training.graph_edit import GraphEditor
from training.whitening import matrix_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OPSET = 17


def model_type(model: SentenceTransformer) -> str:
    """Return what the transformer calls its architecture: `bert`, `mpnet`, …"""
    return str(model[0].model.config.model_type)


def pooling_mode(model: SentenceTransformer) -> str:
    """Return `mean` or `cls`.

    Raises TrainingError where the model is not a transformer, one of these, then (or not) a
    product and a normalisation: anything else would be left out of the graph unsaid.
    """
    kinds = [type(module).__name__ for module in model]
    whole = kinds[:2] == ["Transformer", "Pooling"]
    if not whole or kinds[2:] not in ([], ["Normalize"], ["Dense"], ["Dense", "Normalize"]):
        raise TrainingError(f"cannot export a model made of {', '.join(kinds)}")
    mode = model[1].pooling_mode
    if mode not in {"mean", "cls"}:
        raise TrainingError(f"cannot export {mode!r} pooling, only 'mean' and 'cls'")
    return str(mode)


def export_graph(model: SentenceTransformer) -> onnx.ModelProto:
    """Return the fp32 graph: `input_ids`, `attention_mask` (n, t) int64 to unit vectors (n, dim).

    Attention is one fused node a layer; padding, where there is any, must be on the right.
    Raises TrainingError for a pooling the graph does not know.
    """
    return _fuse(trace(model), model[0].model.config)


def trace(model: SentenceTransformer) -> onnx.ModelProto:
    """Return the fp32 graph as the TorchScript exporter gives it, nothing fused."""
    import torch

    transformer: Any = model[0].model
    # The fused form of attention is recognised in the plain products of this one only.
    transformer.set_attn_implementation("eager")
    accepted = inspect.signature(transformer.forward).parameters
    pooling = pooling_mode(model)
    matrix = matrix_of(model)

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer
            self.product: torch.nn.Module = torch.nn.Identity()
            if matrix is not None:
                self.product = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
                self.product.weight = torch.nn.Parameter(matrix)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            # Given outright, these trace to two small nodes; left to the model, to forty.
            extra = {}
            if "token_type_ids" in accepted:
                extra["token_type_ids"] = torch.zeros_like(input_ids)
            if transformer.config.model_type == "bert":
                extra["position_ids"] = torch.arange(input_ids.shape[1]).unsqueeze(0)
            hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **extra)
            states = hidden.last_hidden_state
            if pooling == "cls":
                pooled = states[:, 0]
            else:
                # The sum points where the mean points; only the direction is kept.
                weights = attention_mask.unsqueeze(1).to(states.dtype)
                pooled = torch.matmul(weights, states).squeeze(1)
            pooled = self.product(pooled)
            unit: torch.Tensor = pooled / pooled.norm(dim=1, keepdim=True)
            return unit

    # Ids that every vocabulary has; which they are leaves no trace in the graph.
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    batch, tokens = "batch", "tokens"
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        # The exporter warns of itself (another one is meant to follow it) and of constants.
        warnings.simplefilter("ignore")
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            Sentence().eval().cpu().float(),
            (ids, mask),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=[OUTPUT],
            dynamic_axes={
                "input_ids": {0: batch, 1: tokens},
                "attention_mask": {0: batch, 1: tokens},
                OUTPUT: {0: batch},
            },
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load_model(path)


def _fuse(traced: onnx.ModelProto, config: Any) -> onnx.ModelProto:
    """Fuse attention and GELU, and nothing else.

    ONNX Runtime's fused LayerNormalization (`SkipLayerNormalization`) and bias with GELU
    (`BiasGelu`) are slower on a CPU than the plain nodes, so they stay apart.
    """
    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_bias_gelu = False
    options.enable_embed_layer_norm = False
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.onnx"
        onnx.save_model(traced, path)
        fused = optimize_model(
            str(path),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=options,
            opt_level=0,
        ).model
    return _merge_projections(fused)


def _merge_projections(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the query, key and value projections of each attention one product, bias included."""
    editor = GraphEditor(model)

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "MultiHeadAttention":
            return None
        projections = [editor.producer(name) for name in node.input[:3]]
        weights = [
            part.input[1]
            for part in projections
            if part is not None and part.op_type == "MatMul" and editor.has_constant(part.input[1])
        ]
        if len(weights) < 3 or projections[0] is None:
            return None
        name = f"{projections[0].name.rsplit('/', 2)[0]}/qkv"
        merged = np.concatenate([editor.constant(weight) for weight in weights], axis=1)
        editor.add_constant(f"{name}.weight", merged)
        parts = [f"{name}.query", f"{name}.key", f"{name}.value"]
        attention = onnx.NodeProto()
        attention.CopyFrom(node)
        attention.input[:4] = [*parts, ""]
        return [
            make_node(
                "MatMul",
                [projections[0].input[0], f"{name}.weight"],
                [f"{name}.product"],
                name=name,
            ),
            make_node(
                "Add", [f"{name}.product", node.input[3]], [f"{name}.sum"], name=f"{name}/add"
            ),
            make_node("Split", [f"{name}.sum"], parts, axis=-1, name=f"{name}/split"),
            attention,
        ]

    editor.rewrite(replace)
    return editor.finish()
