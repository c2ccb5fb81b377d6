"""Write the requirements of pyproject.toml into files that change only when they do.

What is installed from them is then cached whatever else changes in pyproject.toml.
"""  # noqa: INP001 - a script of the Dockerfile, in no package

import sys
import tomllib
from pathlib import Path


def main(source: Path, target: Path) -> None:
    """Write build.txt, service.txt and training.txt into the folder `target`."""
    given = tomllib.loads(source.read_text(encoding="utf-8"))
    project = given["project"]
    files = {
        "build": given["build-system"]["requires"],
        "service": project["dependencies"],
        "training": project["optional-dependencies"]["training"],
    }
    target.mkdir(parents=True, exist_ok=True)
    for name, requirements in files.items():
        lines = "".join(f"{requirement}\n" for requirement in requirements)
        (target / f"{name}.txt").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
