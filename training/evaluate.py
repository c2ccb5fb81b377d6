"""Measure any encoder on any dev set: `python -m training.evaluate ENCODER … --sets FILE …`.

An encoder is an artifact's folder or name, a model's folder or a sentence-transformers name. It is
always measured beside the base and, where its weights are there, all-mpnet-base-v2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.domain.errors import DejaError
from training.devsets import DevSet, check_names, read_retrieval, read_set
from training.encoders import Encoder, TimedEncoder, load_encoder
from training.errors import TrainingError
from training.fields import NONE_LABEL
from training.run import write_json
from training.scoreboard import print_scoreboard
from training.speed import evaluate_speed
from training.tasks import DRAWS, Figures
from training.weights import SLICED

BASE = "all-MiniLM-L6-v2"
# Larger, slower and untuned: how much a better encoder would know.
REFERENCE = "all-mpnet-base-v2"


def evaluate(
    encoder: Encoder, sets: Sequence[DevSet], *, cache: Path | None = None
) -> dict[str, Any]:
    """Return an encoder's name, fingerprint and, under `sets`, its figures on each set.

    cache: a folder of figures measured before; those of an equal encoder on an equal set with equal
    settings are taken from there, others are added.
    Raises TrainingError where a set cannot be measured or the folder not be written.
    """
    fingerprint = encoder.fingerprint
    figures = {one.name: _measured(encoder, fingerprint, one, cache) for one in sets}
    return {"name": encoder.name, "fingerprint": fingerprint, "sets": figures}


def load_encoders(
    given: Sequence[str], *, alone: bool = False, threads: int = 1, device: str = "cpu"
) -> list[TimedEncoder]:
    """Return the base, the encoders that are given and the reference, each once.

    alone: only those given. Where the weights of the reference are not there, stderr says how to
    get them. Raises ArtifactError or TrainingError where another cannot be loaded.
    """
    names = [*given] if alone else [BASE, *given, REFERENCE]
    found: dict[str, TimedEncoder] = {}
    for name in names:
        try:
            encoder = load_encoder(name, threads=threads, device=device)
        except TrainingError as error:
            if name not in SLICED or name in given:
                raise
            if all(other.name != name for other in found.values()):
                sys.stderr.write(f"note: measuring without {name} ({error})\n")
            continue
        found.setdefault(encoder.fingerprint, encoder)
    return list(found.values())


def _measured(encoder: Encoder, fingerprint: str, one: DevSet, cache: Path | None) -> Figures:
    if cache is None:
        return _measure(encoder, one)
    key = {"encoder": fingerprint, "set": one.key}
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    file = cache / f"{digest}.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if kept is not None:
            figures: Figures = kept["figures"]
            return figures
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{file}: no figures can be read from it; remove it") from error
    figures = _measure(encoder, one)
    _write(file, {"name": encoder.name, "set": one.name, "key": key, "figures": figures})
    return figures


def _measure(encoder: Encoder, one: DevSet) -> Figures:
    try:
        return one.measure(encoder)
    except TrainingError as error:
        raise TrainingError(f"{one.name}: {error}") from error


def _write(file: Path, data: Any) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, data)
    except OSError as error:
        raise TrainingError(f"{file}: cannot be written ({error.strerror})") from error


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("encoders", nargs="*", metavar="ENCODER")
    parser.add_argument(
        "--sets",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="labelled pairs (text1, text2, label), of which the natural ones are measured, or "
        "labelled texts (text, label, perhaps split) for one-shot classification",
    )
    parser.add_argument(
        "--none-label",
        default=NONE_LABEL,
        help="the label of texts that are of none of the classes (%(default)s)",
    )
    parser.add_argument(
        "--draws", type=_positive, default=DRAWS, help="of one-shot anchors (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument(
        "--retrieval",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="labelled pairs: each text that has duplicates is to find them among all texts",
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="pairs or texts whose texts retrieval searches as well",
    )
    parser.add_argument(
        "--ballast", type=Path, metavar="FILE", help="texts that retrieval searches as well"
    )
    parser.add_argument(
        "--ballast-count", type=_positive, metavar="N", help="only the first N of them"
    )
    parser.add_argument("--speed", action="store_true", help="time single questions in one thread")
    parser.add_argument(
        "--alone", action="store_true", help=f"without {BASE} and {REFERENCE} beside"
    )
    parser.add_argument(
        "--threads", type=_positive, default=os.cpu_count() or 1, help="of the CPU (%(default)s)"
    )
    parser.add_argument(
        "--device", default="cpu", help="of models, as torch names it (%(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep figures, and take those of an equal encoder on an equal set; speed is not kept",
    )
    chosen = parser.parse_args(arguments)
    if not (chosen.sets or chosen.retrieval or chosen.speed):
        parser.error("nothing to measure: give --sets, --retrieval or --speed")
    if chosen.alone and not chosen.encoders:
        parser.error("--alone needs an encoder")
    if (chosen.ballast or chosen.corpus) and not chosen.retrieval:
        parser.error("--ballast and --corpus are for --retrieval")
    return chosen


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


def _sets(chosen: argparse.Namespace) -> list[DevSet]:
    sets = [
        read_set(path, none_label=chosen.none_label, draws=chosen.draws, seed=chosen.seed)
        for path in chosen.sets
    ]
    if chosen.retrieval:
        sets.append(
            read_retrieval(
                chosen.retrieval,
                corpus=chosen.corpus,
                ballast=chosen.ballast,
                ballast_count=chosen.ballast_count,
                threads=chosen.threads,
            )
        )
    check_names([one.name for one in sets])
    for one in sets:
        if one.dropped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in one.dropped.items())
            sys.stderr.write(f"{one.name}: left out {reasons}\n")
    return sets


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; return the exit status."""
    chosen = _arguments(arguments)
    try:
        # Whatever would be refused is refused before the work, not after it.
        sets = _sets(chosen)
        encoders = load_encoders(
            chosen.encoders, alone=chosen.alone, threads=chosen.threads, device=chosen.device
        )
        found = [evaluate(encoder, sets, cache=chosen.cache) for encoder in encoders]
        if chosen.speed:
            for figures, encoder in zip(found, encoders, strict=True):
                figures["speed"] = evaluate_speed(encoder)
        if chosen.output is not None:
            _write(chosen.output, {"encoders": found})
    except DejaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print_scoreboard(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
