"""Losses compared on one budget: `python -m training.compare --config FILE --output FOLDER`.

One run a loss, with everything else the same: base, pairs, order, steps, dev sets. The ranking of
labelled pairs is left out of all, as L_original cannot have it beside it. Every row of the
comparison is such a run; those that are finished are not made again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from app.domain.errors import DejaError
from training import run
from training.config import TrainConfig, add_flags, read_config

COMPARISON = "comparison.json"
LOSSES = ("original", "full", "softmax")


def compare(config: TrainConfig, losses: Sequence[str]) -> Path:
    """Train once with each loss, in folders below the config's output; return the comparison.

    What was trained is measured in fp32, as the losses differ and not the export.
    Raises TrainingError, before any trains, where an input cannot be used or a loss not be had with
    the other settings.
    """
    from training.encoders import load_encoder
    from training.finish import measured
    from training.prepare import prepare
    from training.train import train
    from training.tuned import check_end, write_model

    settings = [
        config.changed(loss=loss, ranking=0.0, output=config.output / loss) for loss in losses
    ]
    for chosen in settings:
        run.check(chosen, resume=True)
    if config.ranking:
        sys.stderr.write(
            f"note: compared without the ranking ({config.ranking:g}), which not every loss can "
            "have beside it\n"
        )
    # With the loss that asks most of the pairs, so that none is refused after others have trained.
    asks_most = max(settings, key=lambda chosen: chosen.loss == "original")
    prepared = prepare(asks_most)
    check_end(asks_most, prepared)
    base = measured(load_encoder(config.base), config, prepared)
    rows: list[dict[str, Any]] = []
    for chosen in settings:
        run.start(chosen, prepared.summary)
        model = chosen.output / run.MODEL
        if not run.is_trained(chosen.output):
            train(chosen, prepared, resume=True)
        write_model(chosen, prepared)
        last = run.last_logged(chosen.output / run.LOG)
        rows.append(
            {
                "loss": chosen.loss,
                "run": chosen.output.name,
                "steps": last["step"],
                "seconds": last["seconds"],
                "sets": measured(load_encoder(str(model)), config, prepared),
                "base": base,
            }
        )
    budget = {
        "steps": max(row["steps"] for row in rows),
        "pairs_a_batch": config.batch,
        "seconds": max(row["seconds"] for row in rows),
    }
    file = config.output / COMPARISON
    left_out = {"left_out": {"ranking": config.ranking}} if config.ranking else {}
    run.write_json(file, {"budget": budget, **left_out, "rows": rows})
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON file of settings")
    parser.add_argument(
        "--losses",
        nargs="+",
        default=LOSSES,
        choices=get_args(TrainConfig.model_fields["loss"].annotation),
        metavar="LOSS",
        help=f"of %(choices)s ({' '.join(LOSSES)})",
    )
    add_flags(parser)
    given = vars(parser.parse_args(arguments))
    file, losses = given.pop("config"), given.pop("losses")
    try:
        made = compare(read_config(file, given), losses)
    except (DejaError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; the same command goes on with it\n")
        return 130
    sys.stdout.write(f"{made}: {len(losses)} losses compared\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
