"""Segments on disk: each in a folder of its own, whole or not there at all.

    FOLDER/<collection>/<seq>-<number>/  index.faiss  seqs.npy  manifest.json
                                         nodes.npy (rows share vectors)  alive.npy (some are dead)

A folder is written under a name that no reader looks at, every file synchronised, the manifest
last, and then renamed. A reader checks the manifest and the SHA-256 of every file before FAISS
reads a byte of them; what does not pass is deleted, because the truth can always rebuild it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np

from app.index.segment import Pace, Segment
from app.index.twins import Twins
from app.index.view import FaissView

logger = logging.getLogger("deja.index")

FORMAT = 1
MANIFEST = "manifest.json"
_NAME = re.compile(r"\d{20}-\d{6}")  # sorts by seq, then by number
_UNFINISHED = ".unfinished-"
_PIECE = 8 << 20  # bytes read, or written before they are synchronised, at a time


class Unusable(Exception):
    """A saved segment cannot be used; the message says why.

    path: the file at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(problem)
        self.path = path


@dataclass(frozen=True, slots=True)
class Origin:
    """What a saved segment must have in common with the service that reads it.

    encoder: the fingerprint of the encoder. store: the identity of the database.
    """

    encoder: str
    store: str
    dimension: int


class Shelf:
    """The saved segments of every collection in one folder."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        """Take a folder, which need not exist yet."""
        self._folder = folder
        self._origin = origin
        self._naming = threading.Lock()

    def save(
        self, collection: int, view: FaissView, pace: Pace, wanted: Callable[[], bool]
    ) -> int | None:
        """Save the segment of a view without a tail; return how many bytes that took.

        Older ones of the collection are deleted. Nothing is kept, and None returned, where
        `wanted`, asked just before the folder gets its name, says no.
        pace: called between two steps; it may raise to abandon the work.
        """
        home = self._home(collection)
        home.mkdir(parents=True, exist_ok=True)
        older = self._finished(collection)
        number = 1 + max((int(path.name.partition("-")[2]) for path in older), default=0)
        name = f"{view.seq:020d}-{number:06d}"
        building = home / f"{_UNFINISHED}{name}"
        building.mkdir()
        try:
            size = self._write(building, view, pace)
            with self._naming:  # so that `delete` comes either before `wanted` or after the name
                if not wanted():
                    return None
                building.rename(home / name)
            _synchronise_folder(home)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for path in older:
            shutil.rmtree(path, ignore_errors=True)
        return size

    def load(self, collection: int, exact_below: int) -> FaissView | None:
        """Return the view last saved, None where none can be used; delete what cannot."""
        for path in self._home(collection).glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in reversed(self._finished(collection)):
            try:
                return self._read(path, exact_below)
            except Unusable as error:
                at, problem = error.path, str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the truth rebuilds it
                at, problem = path, f"{type(error).__name__}: {error}"
            logger.warning("%s: %s; deleted, the index is rebuilt", at, problem)
            shutil.rmtree(path, ignore_errors=True)
        return None

    def kept(self) -> set[int]:
        """Return the collections of which anything lies on disk."""
        if not self._folder.is_dir():
            return set()
        return {int(entry.name) for entry in self._folder.iterdir() if entry.name.isdecimal()}

    def delete(self, collection: int) -> None:
        """Delete everything saved of a collection."""
        with self._naming:
            shutil.rmtree(self._home(collection), ignore_errors=True)

    def _home(self, collection: int) -> Path:
        return self._folder / str(collection)

    def _finished(self, collection: int) -> list[Path]:
        home = self._home(collection)
        if not home.is_dir():
            return []
        return sorted(path for path in home.iterdir() if _NAME.fullmatch(path.name))

    def _write(self, folder: Path, view: FaissView, pace: Pace) -> int:
        segment = view.segment
        with _Sealed(folder / "index.faiss", pace) as index:
            faiss.write_index(segment.index, faiss.PyCallbackIOWriter(index.write, _PIECE))
        files = [index]
        arrays = {
            "seqs.npy": segment.seqs,
            "nodes.npy": None if segment.twins is None else segment.twins.node_of,
            "alive.npy": view.alive.rows,
        }
        for name, array in arrays.items():
            if array is not None:
                with _Sealed(folder / name, pace) as file:
                    np.save(file, array)
                files.append(file)
        manifest = {
            "format": FORMAT,
            "store": self._origin.store,
            "encoder": self._origin.encoder,
            "dimension": self._origin.dimension,
            "kind": segment.kind,
            "rows": len(segment),
            "dead": view.dead,
            "seq": view.seq,
            "files": {file.path.name: file.seal() for file in files},
        }
        with _Sealed(folder / MANIFEST, pace) as file:
            file.write(json.dumps(manifest, indent=2).encode())
        _synchronise_folder(folder)
        return sum(entry.size for entry in files)

    def _read(self, folder: Path, exact_below: int) -> FaissView:
        path = folder / MANIFEST
        if not path.is_file():
            raise Unusable(path, "missing")
        manifest = json.loads(path.read_bytes())
        origin = self._origin
        for key, mine in (
            ("format", FORMAT),
            ("store", origin.store),
            ("encoder", origin.encoder),
            ("dimension", origin.dimension),
        ):
            if manifest[key] != mine:
                raise Unusable(path, f"its {key} is {manifest[key]!r}, not {mine!r}")
        for name, seal in manifest["files"].items():
            _check(folder / name, seal)
        arrays = {name: np.load(folder / name) for name in manifest["files"] if ".npy" in name}
        nodes, alive = arrays.get("nodes.npy"), arrays.get("alive.npy")
        index = faiss.read_index(str(folder / "index.faiss"))
        twins = None if nodes is None else Twins(nodes)
        segment = Segment(manifest["kind"], index, arrays["seqs.npy"], twins)
        if segment.dimension != origin.dimension or (
            twins is None and segment.nodes != len(segment)
        ):
            raise Unusable(path, "its files do not belong together")
        return FaissView.over(segment, alive, manifest["seq"], exact_below)


class _Sealed:
    """A file being written; on the disk once its `with` block is left, with its seal known."""

    def __init__(self, path: Path, pace: Pace) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._pace = pace
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            os.fsync(self._file.fileno())

    def write(self, data: bytes) -> int:
        """Append `data`, synchronising as it goes so that closing never has much left to do."""
        self._pace()
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        if len(data) == _PIECE:
            os.fsync(self._file.fileno())
        return len(data)

    def seal(self) -> dict[str, Any]:
        """Return what the manifest says of this file."""
        return {"bytes": self.size, "sha256": self._hash.hexdigest()}


def _check(path: Path, seal: dict[str, Any]) -> None:
    """Raise Unusable unless a file is what its manifest says."""
    if not path.is_file():
        raise Unusable(path, "missing")
    if path.stat().st_size != seal["bytes"]:
        raise Unusable(path, f"{path.stat().st_size} bytes long instead of {seal['bytes']}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != seal["sha256"]:
            raise Unusable(path, "its SHA-256 differs from the manifest's")


def _synchronise_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
