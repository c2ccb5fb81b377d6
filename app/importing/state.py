"""How far an import has come, on disk, so that the same command goes on from there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

_VERSION = 1


@dataclass(slots=True)
class Tally:
    """What has become of the rows so far; `bad` ones are part of `read`."""

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    bad: int = 0
    truncated: int = 0

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for name in (item.name for item in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class ImportState:
    """An import that has not ended.

    import_id: part of every idempotency key, so that a later import of the same file is not
    mistaken for a retry of this one.
    file: what it belongs to: the file's size and time, the options that shape its batches.
    line: every row up to it is acknowledged.
    errors_size: bytes of the list of bad lines up to `line`.
    """

    file: dict[str, Any]
    import_id: str = field(default_factory=lambda: secrets.token_hex(16))
    line: int = 0
    tally: Tally = field(default_factory=Tally)
    errors_size: int = 0


class StateFile:
    """One import's state; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def load(self) -> ImportState | None:
        """Return what was saved, None where nothing usable was."""
        if self.path is None:
            return None
        try:
            saved = json.loads(self.path.read_bytes())
            if saved.pop("version") != _VERSION:
                return None
            return ImportState(**{**saved, "tally": Tally(**saved["tally"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, state: ImportState) -> None:
        """Replace what was saved, so that a kill or a power loss leaves the old or the new one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with beside.open("w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **asdict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)

    def delete(self) -> None:
        """Forget the import: it has ended."""
        if self.path is None:
            return
        self.path.unlink(missing_ok=True)
        for left_by_a_kill in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.tmp"):
            left_by_a_kill.unlink(missing_ok=True)


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for import states by the XDG rules."""
    base = environment.get("XDG_STATE_HOME", "")
    # A relative path is to be ignored, by the same rules.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "deja" / "imports"


def state_name(file: Path, options: Mapping[str, Any]) -> str:
    """Return the file name for the import of `file` with the options that shape its batches."""
    key = json.dumps([str(file.resolve()), options], sort_keys=True)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in file.name[:40])
    return f"{stem}-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]}.json"


def file_identity(file: Path) -> dict[str, int]:
    """Return what changes when a file does: its size in bytes and its time in nanoseconds."""
    status = file.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns}
