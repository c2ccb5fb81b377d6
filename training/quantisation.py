"""Compare the 8-bit forms of an encoder: `python -m training.quantisation [--pairs FILE]`.

For each form: average precision on labelled pairs and cosine to the fp32 vectors (with --pairs),
how far a pair's similarity moves when its texts share padded batches, milliseconds a text on one
thread, and size. Timings are medians of rounds in which the forms take turns, so that a
busy machine slows all of them alike; read their ratios.
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from app.domain.errors import DejaError
from training.data import Pairs, read_natural_pairs
from training.export import DEFAULT_MODEL, Exported, export_model, load_model, scale_rows
from training.int8 import observe, quantise_blocks, quantise_rows, quantise_static
from training.metrics import average_precision
from training.onnx_graph import trace
from training.sample_texts import SAMPLE_TEXTS
from training.vectors import encode_call, encode_rows, open_session, pair_similarities

# (texts in the call, tokens of each), by the name of the column.
SHAPES = {"1x5": (1, 5), "1x13": (1, 13), "1x40": (1, 40), "8x13": (8, 13), "32x13": (32, 13)}
_DEFAULT_FLOAT = {"DefaultTensorType": onnx.TensorProto.FLOAT}


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the library is not typed
    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, Any] | None:
        row = next(self._rows, None)
        if row is None:
            return None
        ids = np.array([row], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _through_files(
    quantise: Callable[..., None], model: onnx.ModelProto, *extra: object, **options: object
) -> onnx.ModelProto:
    """Run one of ONNX Runtime's quantisers, which read and write files."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        onnx.save_model(model, source)
        with redirect_stdout(io.StringIO()):  # the histogram methods print as they go
            quantise(str(source), str(target), *extra, **options)
        return onnx.load_model(target)


def _dynamic(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    return _through_files(
        quantize_dynamic,
        model,
        weight_type=QuantType.QInt8,
        extra_options=_DEFAULT_FLOAT,
        **options,
    )


def _qdq(
    model: onnx.ModelProto, rows: Sequence[Sequence[int]], method: CalibrationMethod
) -> onnx.ModelProto:
    # The histogram methods stack what they see, so every row must have the same length.
    equal = [row[:12] for row in rows if len(row) >= 12]
    return _through_files(
        quantize_static,
        model,
        _Rows(equal),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
        calibrate_method=method,
        extra_options=_DEFAULT_FLOAT | {"MatMulConstBOnly": True},
    )


def candidates(exported: Exported, traced: onnx.ModelProto) -> Iterator[tuple[str, Any, bool]]:
    """Give each form's name, how to build it, and whether ONNX Runtime is to fuse it further."""
    fused, rows = exported.fp32, scale_rows(exported.tokenizer)
    ranges = observe(fused, rows)
    yield "fp32, as traced", lambda: traced, True
    yield "fp32, fused at export", lambda: fused, False
    yield "dynamic", partial(_dynamic, traced), True
    yield "dynamic, per channel", partial(_dynamic, traced, per_channel=True), True
    yield (
        "dynamic, per channel, 7 bits",
        partial(_dynamic, traced, per_channel=True, reduce_range=True),
        True,
    )
    yield "dynamic, per channel, fused", partial(_dynamic, fused, per_channel=True), False
    for method in (
        CalibrationMethod.MinMax,
        CalibrationMethod.Entropy,
        CalibrationMethod.Percentile,
    ):
        yield f"static QDQ, {method.name}", partial(_qdq, traced, rows, method), True
    yield "static", partial(quantise_static, fused, ranges, smoothing=None), False
    for smoothing in (0.5, 0.7, 0.8):
        build = partial(quantise_static, fused, ranges, smoothing=smoothing)
        yield f"static, smoothing {smoothing}", build, False
    build = partial(quantise_static, fused, ranges, smoothing=0.8, weight_limit=64)
    yield "static, smoothing 0.8, weights to 64", build, False
    yield "the same, fused further at load", build, True
    yield "a scale a token", partial(quantise_rows, fused), False
    for bits, block in ((8, 32), (8, 64), (8, 128), (4, 32)):
        build = partial(quantise_blocks, fused, bits=bits, block=block)
        yield f"MatMulNBits, {bits} bits by {block}", build, False


def batch_change(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], size: int = 16
) -> float:
    """Return how far any pair's similarity moves when its texts share padded batches."""
    alone = encode_rows(session, rows, together=False)
    parts = [encode_call(session, rows[i : i + size]) for i in range(0, len(rows), size)]
    shared = np.concatenate(parts)
    return float(np.abs(alone @ alone.T - shared @ shared.T).max())


def timings(
    sessions: dict[str, onnxruntime.InferenceSession], rounds: int
) -> dict[str, dict[str, float]]:
    """Return milliseconds a text of each session and shape, medians of interleaved rounds."""
    rng = np.random.default_rng(0)
    calls = {
        shape: [
            [[101, *rng.integers(1996, 20000, tokens - 2).tolist(), 102] for _ in range(texts)]
            for _ in range(max(1, 16 // texts))
        ]
        for shape, (texts, tokens) in SHAPES.items()
    }
    taken: dict[str, dict[str, list[float]]] = {
        name: {shape: [] for shape in SHAPES} for name in sessions
    }
    for _ in range(rounds):
        for shape, batches in calls.items():
            for name, session in sessions.items():
                start = time.perf_counter()
                for batch in batches:
                    encode_call(session, batch)
                texts = len(batches) * SHAPES[shape][0]
                taken[name][shape].append((time.perf_counter() - start) / texts * 1e3)
    return {
        name: {shape: statistics.median(values) for shape, values in shapes.items()}
        for name, shapes in taken.items()
    }


def thread_rates(model: onnx.ModelProto, rounds: int) -> dict[str, float]:
    """Return 13-token texts a second from one thread, and from two in the two arrangements."""
    row = [101, *range(2000, 2011), 102]
    first, second = open_session(model), open_session(model)
    arrangements = {
        "one thread": [first],
        "two threads, one session": [first, first],
        "two threads, a session each": [first, second],
    }
    texts = 300

    def work(session: onnxruntime.InferenceSession) -> None:
        for _ in range(texts):
            encode_call(session, [row])

    rates: dict[str, list[float]] = {name: [] for name in arrangements}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            for name, sessions in arrangements.items():
                start = time.perf_counter()
                list(pool.map(work, sessions))
                rates[name].append(texts * len(sessions) / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def report(pairs: Pairs | None, *, model: str, only: str, rounds: int) -> Iterator[str]:
    """Give the lines of the comparison, Markdown."""
    exported = export_model(model, pack=False)
    traced = trace(load_model(exported.base))
    rows = exported.rows(pairs.texts if pairs else SAMPLE_TEXTS)
    reference = encode_rows(open_session(exported.fp32), rows, together=True)
    sessions = {}
    yield "| form | MB | load s | AP | cosine mean | least | batch moves a similarity by |"
    yield "|---|---|---|---|---|---|---|"
    for name, build, optimise in candidates(exported, traced):
        if only not in name:
            continue
        graph = build()
        start = time.perf_counter()
        session = sessions[name] = open_session(graph, optimise=optimise)
        load = time.perf_counter() - start
        moved = batch_change(session, rows[:256])
        vectors = encode_rows(session, rows, together=moved < 1e-4)
        cosine = np.einsum("ij,ij->i", vectors, reference)
        precision = "-"
        if pairs is not None:
            found = average_precision(pair_similarities(vectors, pairs), pairs.labels)
            precision = f"{found:.2%}"
        yield (
            f"| {name} | {graph.ByteSize() / 1e6:.1f} | {load:.2f} | {precision} "
            f"| {cosine.mean():.4f} | {cosine.min():.4f} | {moved:.0e} |"
        )
    yield ""
    yield f"| form, ms a text | {' | '.join(SHAPES)} |"
    yield f"|---|{'---|' * len(SHAPES)}"
    for name, taken in timings(sessions, rounds).items():
        yield f"| {name} | {' | '.join(f'{taken[shape]:.2f}' for shape in SHAPES)} |"
    yield ""
    for name, rate in thread_rates(exported.int8, rounds).items():
        yield f"{name}: {rate:.0f} texts/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.quantisation", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="as for training.export")
    parser.add_argument("--pairs", type=Path, help="gzipped TSV of labelled pairs")
    parser.add_argument("--only", default="", help="only forms with this in their name")
    parser.add_argument("--rounds", type=int, default=15, help="of timing (%(default)s)")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    try:
        pairs = read_natural_pairs(chosen.pairs) if chosen.pairs else None
        for line in report(pairs, model=chosen.model, only=chosen.only, rounds=chosen.rounds):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except DejaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
