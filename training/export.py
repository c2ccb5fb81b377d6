"""Turn a sentence-transformers model into an encoder artifact: `python -m training.export`.

One ONNX graph with pooling and normalisation inside, int8 for CPUs, the linear layers of a BERT
without padding; its tokenizer, calibration, model card and manifest. The same weights and library
versions give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from tokenizers import Tokenizer

from app.domain.calibration import Calibration, CalibrationError
from app.domain.errors import ArtifactError, DejaError
from app.encoders.artifact import (
    CALIBRATION,
    CARD,
    LABELS,
    MODEL,
    NAME_PATTERN,
    SHIPPED,
    TOKENIZER,
    Artifact,
    Batching,
    Manifest,
    load_artifact,
    write_artifact,
)
from app.encoders.unknown import unknown_words
from training.card import model_card
from training.errors import PrecisionLost, TrainingError, file_problem
from training.int8 import observe, quantise_static
from training.kept import Kept, kept_of
from training.packing import pack_tokens
from training.sample_texts import SAMPLE_TEXTS
from training.vectors import encode_rows, open_session, pair_similarities
from training.weights import Base, find_base

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

    from training.data import Pairs

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_OUTPUT = SHIPPED / "all-minilm-l6-v2"
SMOOTHING = 0.8
# Of 127: the eighth bit overflows on CPUs without VNNI, and costs next to nothing to leave out.
WEIGHT_LIMIT = 64
# Points of average precision that int8 may lose, and the pairs below which so little is chance.
LARGEST_LOSS = 0.5
_ENOUGH_PAIRS = 1_000
_CONFIG = {"activations": "static", "smoothing": SMOOTHING, "weight_limit": WEIGHT_LIMIT}
# What a manifest says of the data.
_TOLD = ("files", "pairs", "positives", "negatives", "texts", "groups", "dropped")
# Above the noise between kinds of CPU, far below what any change of the weights does.
SAME_VECTORS = 1e-3
_LIBRARIES = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True)
class Exported:
    """A model on its way into an artifact: both graphs, its tokenizer and what describes it."""

    base: Base
    pooling: str
    max_tokens: int
    tokenizer: Tokenizer
    fp32: onnx.ModelProto
    int8: onnx.ModelProto
    batching: Batching

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, special tokens included, cut at the maximum."""
        return [self.tokenizer.encode(text).ids for text in texts]

    def graph(self, precision: str) -> onnx.ModelProto:
        """Return the graph of a precision, `fp32` or `int8`."""
        return self.int8 if precision == "int8" else self.fp32


@dataclass(frozen=True, slots=True)
class Trained:
    """What a tuned model was made from, for its manifest and its card.

    base: before tuning; config: the settings of the run; data: what was read and dropped;
    terms: of the data, in words; made_of: the share and the runs of a mean of several.
    """

    base: Base
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    terms: str
    made_of: Mapping[str, Any] | None = None


def export_model(model: str = DEFAULT_MODEL, *, pack: bool = True) -> Exported:
    """Return the graphs and tokenizer of a pinned name, a folder or a sentence-transformers name.

    pack: leave padding out of the linear layers of a BERT; other models' graphs stay as they are.
    Raises TrainingError where the model or torch is missing, or its shape is not supported.
    """
    base = find_base(model)
    loaded = load_model(base)
    from training.onnx_graph import export_graph, model_type, pooling_mode

    tokenizer = Tokenizer.from_str(loaded.tokenizer.backend_tokenizer.to_str())
    max_tokens = int(loaded.max_seq_length)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    fp32 = export_graph(loaded)
    ranges = observe(fp32, scale_rows(tokenizer))
    int8 = quantise_static(fp32, ranges, smoothing=SMOOTHING, weight_limit=WEIGHT_LIMIT)
    # Others number their positions in another way, or have none.
    batching: Batching = "packed" if pack and model_type(loaded) == "bert" else "padded"
    if batching == "packed":
        fp32, int8 = pack_tokens(fp32), pack_tokens(int8)
    return Exported(base, pooling_mode(loaded), max_tokens, tokenizer, fp32, int8, batching)


def export_artifact(
    exported: Exported,
    output: Path,
    *,
    precision: str = "int8",
    pairs: Pairs | None = None,
    population: str = "",
    release: str = "1",
    largest_loss: float = LARGEST_LOSS,
    trained: Trained | None = None,
) -> Artifact:
    """Write the artifact folder `output`, named like it, and return it.

    pairs: what to calibrate and measure on, at their population's base rate; without them, the
    calibration and figures of the artifact already at `output` are kept if its vectors are the
    same ones. population: what the pairs are, in words. largest_loss: points of average precision
    that int8 may lose against fp32 on 1,000 pairs or more. trained: where the model was tuned;
    otherwise what an artifact of the same weights at `output` tells of them is kept, and what is
    lost of it is said.
    Raises TrainingError where there is nothing to take the calibration from or it cannot be
    fitted, PrecisionLost where int8 loses more than it may; then nothing is written.
    """
    if pairs is None:
        return _rebuilt(exported, output, precision, release)
    calibration, metrics, data = _measured(exported, precision, pairs, population)
    if len(pairs) >= _ENOUGH_PAIRS:
        _check_loss(metrics["average_precision"], precision, largest_loss)
    graph = exported.graph(precision)
    base = exported.base if trained is None else trained.base
    kept = _kept(exported, output, graph) if trained is None else Kept()
    fields = {"base_model": base.name, "licence": base.licence or "see the base model"}
    manifest = Manifest(
        name=output.name,
        version=release,
        dimension=_dimension(graph),
        max_tokens=exported.max_tokens,
        pooling=exported.pooling,
        precision=precision,
        batching=exported.batching,
        made={
            "origin": base.origin,
            "weights_sha256": exported.base.sha256,
            "config": _CONFIG if precision == "int8" else {},
            "calibrated_on": data,
            "with": _libraries(),
            **({} if trained is None else _training(trained)),
            **kept.made,
        },
        metrics={**metrics, **kept.metrics},
        **{**fields, **kept.manifest},
    )
    files = {
        MODEL: graph.SerializeToString(deterministic=True),
        TOKENIZER: exported.tokenizer.to_str().encode(),
        CALIBRATION: calibration_file(calibration, kept.labels),
        CARD: model_card(manifest, calibration).encode(),
    }
    written = write_artifact(output, manifest, files)
    for one in kept.left_out:
        sys.stderr.write(f"{output}: left out of what stood there: {one}\n")
    return written


def publish_artifact(
    staged: Artifact, output: Path, beside: Mapping[str, Mapping[str, float]]
) -> Artifact:
    """Write an artifact that was measured to its place, with the figures, and return it.

    beside: the main figure of each dev set, by encoder: its base, itself and others.
    """
    manifest = staged.manifest.model_copy(
        update={"name": output.name, "metrics": {**staged.manifest.metrics, "beside": beside}}
    )
    files = {name: (staged.path / name).read_bytes() for name in staged.manifest.files}
    files[CARD] = model_card(manifest, staged.calibration).encode()
    return write_artifact(output, manifest, files)


def scale_rows(tokenizer: Tokenizer, *, seed: int = 0, count: int = 128) -> list[list[int]]:
    """Return the token rows whose activations set the scales of an int8 graph.

    They are the sample texts, and `count` rows of 5 to 42 tokens drawn from the whole vocabulary:
    these reach words that no short list of sentences holds, and so the activations that a scale
    must not cut off.
    """
    rng = np.random.default_rng(seed)
    start, *_, end = tokenizer.encode("a").ids
    size = tokenizer.get_vocab_size()
    return [tokenizer.encode(text).ids for text in SAMPLE_TEXTS] + [
        [start, *rng.integers(size // 20, size, length).tolist(), end]
        for length in rng.integers(3, 41, count)
    ]


def load_model(base: Base) -> SentenceTransformer:
    """Return the sentence-transformers model of a base.

    Raises TrainingError where torch is not installed or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        message = f"exporting needs torch and sentence-transformers ({error})"
        raise TrainingError(f"{message}; install the training extra") from error
    disable_progress_bar()
    try:
        return SentenceTransformer(base.location, device="cpu")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"{base.location}: cannot be loaded ({reason})") from error


def _measured(
    exported: Exported, precision: str, pairs: Pairs, population: str
) -> tuple[Calibration, dict[str, Any], dict[str, Any]]:
    """Return calibration, metrics and what they were measured on, from labelled pairs."""
    from training.calibrate import fit, log_loss, log_odds, pair_evidence
    from training.metrics import average_precision

    rows = exported.rows(pairs.texts)
    reference = encode_rows(open_session(exported.fp32), rows, together=True)
    vectors = encode_rows(open_session(exported.graph(precision)), rows, together=True)
    similarities = pair_similarities(vectors, pairs)
    evidence = pair_evidence(pairs, unknown_words(exported.tokenizer))
    try:
        calibration = fit(similarities, pairs.labels, population=population, evidence=evidence)
    except CalibrationError as error:
        raise TrainingError(
            f"{population}: the encoder cannot be calibrated on its {len(pairs)} pairs ({error}); "
            "give other pairs to measure on, or train otherwise"
        ) from error
    found = log_odds(calibration, similarities, evidence)
    cut_offs = calibration.cut_offs()
    cosine = np.einsum("ij,ij->i", vectors, reference)
    metrics = {
        "average_precision": {
            "fp32": round(average_precision(pair_similarities(reference, pairs), pairs.labels), 4),
            precision: round(average_precision(similarities, pairs.labels), 4),
            "probability": round(average_precision(found, pairs.labels), 4),
        },
        "cosine_to_fp32": {
            "mean": round(float(cosine.mean()), 5),
            "min": round(float(cosine.min()), 5),
        },
        "log_loss": round(log_loss(found, pairs.labels), 4),
        "duplicate_at": cut_offs.duplicate_at,
        "review_at": cut_offs.review_at,
    }
    data = {
        "population": population,
        "pairs": len(pairs),
        "duplicates": round(float(pairs.labels.mean()), 4),
        "sha256": pairs.fingerprint,
    }
    return calibration, metrics, data


def _check_loss(measured: Mapping[str, float], precision: str, largest: float) -> None:
    """Raise PrecisionLost where the precision costs more points of AP than it may."""
    lost = 100 * (measured["fp32"] - measured[precision])
    if lost > largest:
        raise PrecisionLost(
            f"{precision} loses {lost:.2f} points of average precision against fp32, more than "
            f"the {largest:g} allowed"
        )


def _training(trained: Trained) -> dict[str, Any]:
    """Return what a manifest says of the training: settings, data and terms."""
    return {
        "base_weights_sha256": trained.base.sha256,
        "training": dict(trained.config),
        "trained_on": {name: trained.data[name] for name in _TOLD},
        "terms": trained.terms,
        **({"made_of": dict(trained.made_of)} if trained.made_of else {}),
    }


def _rebuilt(exported: Exported, output: Path, precision: str, release: str) -> Artifact:
    """Write the artifact at `output` again, with a new graph and all else as it was; return it.

    Raises TrainingError where it has other vectors, on which its calibration would be wrong.
    """
    previous = _previous(output)
    graph = exported.graph(precision)
    change = _change(exported, previous, graph)
    if change is None:
        raise TrainingError(f"{output}: holds vectors of another dimension; give --pairs FILE")
    if change > SAME_VECTORS:
        raise TrainingError(
            f"{output}: its calibration cannot be kept, the new vectors differ by up to "
            f"{change:.4f}; give --pairs FILE"
        )
    made = {**previous.manifest.made, "with": _libraries()}
    update = {
        "name": output.name,
        "version": release,
        "precision": precision,
        "batching": exported.batching,
        "made": made,
    }
    manifest = previous.manifest.model_copy(update=update)
    files = {name: (previous.path / name).read_bytes() for name in previous.manifest.files}
    files[MODEL] = graph.SerializeToString(deterministic=True)
    files[TOKENIZER] = exported.tokenizer.to_str().encode()
    files[CARD] = model_card(manifest, previous.calibration).encode()
    return write_artifact(output, manifest, files)


def _change(exported: Exported, previous: Artifact, graph: onnx.ModelProto) -> float | None:
    """Return the largest change of a number in vectors of the sample texts.

    None where the vectors are of another dimension.
    """
    if previous.manifest.dimension != _dimension(graph):
        return None
    rows = exported.rows(SAMPLE_TEXTS)
    before, after = open_session(onnx.load_model(previous.path / MODEL)), open_session(graph)
    return float(
        np.abs(
            encode_rows(before, rows, together=True) - encode_rows(after, rows, together=True)
        ).max()
    )


def _kept(exported: Exported, output: Path, graph: onnx.ModelProto) -> Kept:
    """Return what holds of the artifact at `output`, which is replaced; nothing without one."""
    try:
        previous = load_artifact(output)
    except ArtifactError:
        return Kept()
    change = _change(exported, previous, graph)
    same_vectors = change is not None and change <= SAME_VECTORS
    return kept_of(previous, exported.base.sha256, same_vectors=same_vectors)


def _libraries() -> dict[str, str]:
    return {library: version(library).split("+")[0] for library in _LIBRARIES}


def _previous(output: Path) -> Artifact:
    """Return the artifact whose calibration a rebuild may keep.

    Raises TrainingError where there is none.
    """
    try:
        return load_artifact(output)
    except ArtifactError as error:
        raise TrainingError(f"no calibration to keep ({error}); give --pairs FILE") from error


def _release(output: Path, pairs: Pairs | None) -> str:
    """Return the version of the artifact that is replaced, `1` where there is none.

    Raises TrainingError where it is needed for its calibration as well.
    """
    try:
        return _previous(output).manifest.version
    except TrainingError:
        if pairs is None:
            raise
        return "1"


def _dimension(model: onnx.ModelProto) -> int:
    ids = np.array([[0, 1]], dtype=np.int64)
    session = open_session(model)
    return int(encode_rows(session, ids.tolist(), together=False).shape[1])


def calibration_file(calibration: Calibration, labels: Mapping[str, object] | None = None) -> bytes:
    """Return the bytes of a calibration's file.

    labels: its section for one-shot labels, as the file has it, if there is one.
    """
    written = {**calibration.to_json(), **({} if labels is None else {LABELS: labels})}
    return (json.dumps(written, indent=1) + "\n").encode()


def check_name(output: Path) -> None:
    """Raise TrainingError unless an artifact can be named like the folder."""
    if not re.fullmatch(NAME_PATTERN, output.name):
        raise TrainingError(
            f"{output}: an artifact is named like its folder, with letters, digits and . _ - only"
        )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="a pinned name, a folder or a sentence-transformers name (%(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="the artifact folder to write"
    )
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument(
        "--largest-loss",
        type=float,
        default=LARGEST_LOSS,
        metavar="POINTS",
        help="points of average precision that int8 may lose (%(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        help="gzipped TSV of labelled pairs to calibrate on; of a file with a column `natural`, "
        "only the pairs where it is 1; without it, the calibration at the output is kept",
    )
    parser.add_argument(
        "--population", default="", help="what the pairs are, in words (the file's name)"
    )
    parser.add_argument(
        "--release", help="the artifact's version; by default that of the one it replaces"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; return the exit status."""
    chosen = _arguments(arguments)
    try:
        pairs = None
        if chosen.pairs is not None:
            from training.data import read_natural_pairs

            pairs = read_natural_pairs(chosen.pairs)
        # Whatever would be refused is refused before the work, not after it.
        check_name(chosen.output)
        release = chosen.release or _release(chosen.output, pairs)
        artifact = export_artifact(
            export_model(chosen.model),
            chosen.output,
            precision=chosen.precision,
            pairs=pairs,
            population=chosen.population or (chosen.pairs.name if chosen.pairs else ""),
            release=release,
            largest_loss=chosen.largest_loss,
        )
    except DejaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {file_problem(error)}\n")
        return 1
    manifest = artifact.manifest
    kept = "" if pairs else " (calibration and figures kept: the vectors are the same)"
    size = (artifact.path / MODEL).stat().st_size / 1e6
    sys.stdout.write(
        f"{artifact.path}: {manifest.name} {manifest.version}, {manifest.precision}, "
        f"{size:.1f} MB{kept}\n{json.dumps(manifest.metrics, indent=2)}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
