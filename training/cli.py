"""`deja-train`: from pairs of questions to an encoder artifact that the service loads."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from app.domain.errors import DejaError
from training.config import add_flags, read_config

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    given = vars(_parser().parse_args(arguments))
    file, resume = given.pop("config"), given.pop("resume")
    output = given.get("output", "the run's folder")
    try:
        config = read_config(file, given)
        output = config.output
        # Not before: a mistake in the settings is told without waiting for torch.
        from training.pipeline import run_pipeline

        artifact = run_pipeline(config, resume=resume)
    except DejaError as error:
        return _said(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = "make room" if error.errno == errno.ENOSPC else "mend that"
        problem = f"{place}{error.strerror or error}"
        return _said(f"{problem}; {remedy}, then go on with --resume --output {output}")
    except KeyboardInterrupt:
        _said(f"interrupted; go on with --resume --output {output}")
        return _INTERRUPTED
    if artifact is not None:
        installed = "" if config.install is None else f", a copy in {config.install}"
        encoder = artifact if config.install is None else artifact.name
        sys.stdout.write(
            f"{artifact}: ready{installed}; serve it with DEJA_ENCODER={encoder}\n"
            f"{config.output / 'report.html'}: what it learnt and what it gets wrong\n"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deja-train",
        description=__doc__,
        epilog="Every setting can stand in the config file under its flag's name, with _ for -.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML or JSON file of settings; flags win"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder, if any"
    )
    add_flags(parser)
    return parser


def _said(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
