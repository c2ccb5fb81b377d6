"""Everything a running service holds, opened and closed in order."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from app.domain.errors import DataFolderError, DejaError, NotReady
from app.domain.ports import Encoded
from app.encoders.artifact import Artifact, find_artifact, load_artifact
from app.encoders.cache import CachedEncoder
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.index.faiss_index import FaissIndex
from app.settings import Settings
from app.storage.sqlite import SqliteAnchorStore
from app.usecases.clusters import KIND as CLUSTERS
from app.usecases.clusters import FindClusters
from app.usecases.compare import Compare
from app.usecases.feedback import GiveFeedback
from app.usecases.filtered import Filtered
from app.usecases.jobs import Jobs
from app.usecases.label import Label
from app.usecases.labelled import Labelled
from app.usecases.lookup import Lookup
from app.usecases.matching import Judge
from app.usecases.register import Register
from app.usecases.startup import bring_index_up, reembed, report_set_aside
from app.usecases.writer import Writer
from app.workers import Slots, WorkerPool

log = logging.getLogger("deja")

DATABASE = "deja.db"
# Texts of bulk work in one call of the encoder. A request's calls spread over the threads, and what
# nobody waits for any more stops between two of them.
CHUNK = 16
# Each holds a moment of the database open, and the write-ahead log with it.
EXPORTS = 4
# Of low priority; more would take the caches from those who answer.
JOB_THREADS = 2


@dataclass(slots=True)
class Readiness:
    """Whether requests can be answered, and if not, what is still to be done."""

    ready: bool = False
    detail: str = "starting"

    def report(self, detail: str) -> None:
        """Say what is being done."""
        self.detail = detail

    def require(self) -> None:
        """Raise NotReady unless requests can be answered."""
        if not self.ready:
            raise NotReady(f"not ready: {self.detail}", retry_after=2)


@dataclass(slots=True)
class Runtime:
    """The open resources and the use cases over them."""

    settings: Settings
    artifact: Artifact
    encoder: CachedEncoder
    store: SqliteAnchorStore
    index: FaissIndex
    writer: Writer
    workers: WorkerPool
    judge: Judge
    lookup: Lookup
    register: Register
    compare: Compare
    jobs: Jobs
    give_feedback: GiveFeedback
    label: Label
    lock: IO[str]
    key: str | None
    exports: Slots = field(default_factory=lambda: Slots(EXPORTS, "exports"))
    stopping: threading.Event = field(default_factory=threading.Event)
    readiness: Readiness = field(default_factory=Readiness)
    on_failure: Callable[[BaseException], None] | None = None
    _bringing_up: threading.Thread | None = None

    def bring_up(self) -> None:
        """Start, in the background, what must be done before the first answer."""
        self._bringing_up = threading.Thread(target=self._bring_up, name="deja-startup")
        self._bringing_up.start()

    def _bring_up(self) -> None:
        try:
            reembed(self.store, self._encode_side_by_side, self.readiness.report)
            bring_index_up(self.store, self.index, self.readiness.report)
            report_set_aside(self.store, self.artifact.fingerprint)
            self.writer.start()
            self.jobs.start()
            if not self.stopping.is_set():
                self.readiness.report("ready")
                self.readiness.ready = True
        except NotReady:
            log.info("stopped before the service was ready")
        except Exception as error:  # noqa: BLE001 - whatever it is, the service cannot go on
            self.fail(error)

    def prepare(self, texts: Sequence[str]) -> Encoded:
        """Return the vectors of texts that become anchors, with all that judging them needs kept.

        The lookups that find them first would make it otherwise, each of ten anchors, with the
        interpreter lock held.
        """
        encoded = self.encoder.encode(texts)
        self.judge.scorer.prepare(texts)
        return encoded

    def prepare_each(self, lists: Sequence[Sequence[str]]) -> list[Encoded]:
        """Return what `prepare` returns for each list, all of them encoded together."""
        encoded = self.encoder.encode_each(lists)
        self.judge.scorer.prepare(text for texts in lists for text in texts)
        return encoded

    def _encode_side_by_side(self, texts: Sequence[str]) -> Encoded:
        """Return `encoder.encode(texts)`, made by as many threads as there are workers."""
        if self.stopping.is_set():
            raise NotReady("the service is stopping")
        parts = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        with ThreadPoolExecutor(self.settings.threads) as threads:
            encoded = list(threads.map(self.encoder.encode, parts))
        return Encoded(
            np.concatenate([part.vectors for part in encoded]),
            tuple(count for part in encoded for count in part.tokens),
            tuple(cut for part in encoded for cut in part.truncated),
        )

    def fail(self, error: BaseException) -> None:
        """Stop answering: something happened after which no answer could be trusted."""
        if isinstance(error, DejaError):
            log.critical("%s", error)
        else:
            log.critical("cannot go on: %s", error, exc_info=error)
        self.readiness.ready = False
        self.readiness.report("failed; see the log")
        if self.on_failure:
            self.on_failure(error)

    def close(self) -> None:
        """Finish what was accepted, save, and let go of the data folder."""
        self.readiness.ready = False
        self.readiness.report("stopping")
        self.stopping.set()
        self.workers.close()
        if self._bringing_up:
            self._bringing_up.join()
        self.jobs.close()
        self.writer.close()
        self.index.close()
        self.store.close()
        self.lock.close()


def open_runtime(settings: Settings) -> Runtime:
    """Return the open resources; nothing stays open where one of them cannot be.

    Raises StartupError, in one line, where the service cannot start.
    """
    key = settings.key()
    encoders = settings.encoders_dir or settings.data_dir / "encoders"
    artifact = load_artifact(find_artifact(settings.encoder, [encoders]))
    encoder = CachedEncoder(OnnxEncoder(artifact), settings.cache_size)
    judge = Judge(artifact.calibration, head_of(artifact), unknown_to(artifact))
    with ExitStack() as undo:
        lock = undo.enter_context(_claim(settings.data_dir))
        store = SqliteAnchorStore(settings.data_dir / DATABASE, artifact.fingerprint)
        undo.callback(store.close)
        index = FaissIndex(
            settings.data_dir / "index",
            encoder.dimension,
            encoder=artifact.fingerprint,
            store=store.identity,
        )
        undo.callback(index.close)
        workers = WorkerPool(settings.threads, settings.queue_size)
        undo.pop_all()
    # `runtime` is being made: only a lambda can name what does not exist yet.
    writer = Writer(store, index, on_failure=lambda error: runtime.fail(error))  # noqa: PLW0108
    clusters = FindClusters(store, index, judge, encoder.name, min(settings.threads, JOB_THREADS))
    runtime = Runtime(
        settings=settings,
        artifact=artifact,
        encoder=encoder,
        store=store,
        index=index,
        writer=writer,
        workers=workers,
        judge=judge,
        lookup=Lookup(encoder, store, index, judge, Filtered(store)),
        register=Register(judge),
        compare=Compare(encoder, judge),
        jobs=Jobs(store, writer, {CLUSTERS: clusters}, busy=lambda: workers.load > 0),
        give_feedback=GiveFeedback(judge, encoder.name),
        label=Label(
            encoder,
            store,
            index,
            artifact.labels.weights,
            Labelled(store, artifact.labels.weights.sharpness),
        ),
        lock=lock,
        key=key,
    )
    return runtime


def _claim(folder: Path) -> IO[str]:
    """Return the open lock file of a data folder that is ours until it is closed.

    Raises DataFolderError where the folder cannot be written or another process has it.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise DataFolderError(
            f"{folder}: the data folder cannot be written ({error.strerror}); "
            "choose another with DEJA_DATA_DIR"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise DataFolderError(
            f"{folder}: the data folder is in use by another deja process ({owner}); "
            "stop it, or choose another folder with DEJA_DATA_DIR"
        ) from error
    except OSError as error:
        lock.close()
        raise DataFolderError(
            f"{folder}: the data folder cannot be locked ({error.strerror}); "
            "it must lie on a file system with locks, such as a local disk"
        ) from error
    with suppress(OSError):  # on a full disk the lock holds all the same, only without a name
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"process {os.getpid()}\n".encode())
    return lock
