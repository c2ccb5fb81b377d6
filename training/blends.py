"""How far to go from the base: `python -m training.blends RUN --shares 0.25 0.5 0.75 1`.

Weights between base and tuned keep more of what the base knew elsewhere, and often lose little of
what was gained (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903). Every share is measured on the
run's dev sets, and the run's report draws what they gain against what they lose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.domain.errors import DejaError
from training import run
from training.config import TrainConfig, read_config

BLENDS = "blends.json"


def measure_blends(config: TrainConfig, shares: Sequence[float]) -> dict[str, Any]:
    """Return the figures of shares of the way from a run's base to its tuned model, a row each.

    They are measured in fp32 on `dev_limit` texts or pairs of each dev set, none of them whitened.
    Raises TrainingError where the end of the run's training is not there, or its data cannot be
    read.
    """
    from training.encoders import from_model
    from training.export import load_model
    from training.measure import SCORE, DevMeasure
    from training.prepare import prepare
    from training.trainer import blend
    from training.weights import find_base

    folder = run.end(config.output, config)
    prepared = prepare(config)
    measure = DevMeasure(config, prepared)
    base = load_model(find_base(config.base))
    tuned = load_model(find_base(str(folder)))
    start = {name: weight.clone() for name, weight in base.state_dict().items()}
    end = {name: weight.clone() for name, weight in tuned.state_dict().items()}

    def figures(share: float) -> dict[str, float]:
        tuned.load_state_dict(blend(start, end, share))
        found = measure(from_model(tuned, f"{share:g} of the way"))
        return {name: value for name, value in found.items() if name != SCORE}

    before = figures(0.0)
    rows: list[dict[str, Any]] = []
    for share in shares:
        rows.append({"share": share, "sets": figures(share), "base": before})
        sys.stdout.write(f"{share:g} of the way: {_told(rows[-1]['sets'], before)}\n")
    return {"domain": prepared.held_out, "dev_limit": config.dev_limit, "rows": rows}


def share_of_way(written: str) -> float:
    """Return a share of the way, above 0 and at most 1; for a parser, which refuses others."""
    share = float(written)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {written}")
    return share


def _told(sets: dict[str, float], before: dict[str, float]) -> str:
    return "  ".join(
        f"{name} {100 * value:.1f} ({100 * (value - before[name]):+.1f})"
        for name, value in sets.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.blends", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument(
        "--shares", type=share_of_way, nargs="+", default=[0.25, 0.5, 0.75, 1.0], metavar="X"
    )
    parser.add_argument("--dev-limit", type=int, metavar="N", help="of each dev set")
    chosen = parser.parse_args(arguments)
    try:
        config = read_config(chosen.run / run.CONFIG, {})
        if chosen.dev_limit is not None:
            config = config.model_copy(update={"dev_limit": chosen.dev_limit})
        found = measure_blends(config, chosen.shares)
        run.write_json(chosen.run / BLENDS, found)
    except (DejaError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
