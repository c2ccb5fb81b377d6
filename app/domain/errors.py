"""Every error the service raises on purpose.

DejaError
├── StartupError            the service cannot start; `deja serve` prints it and exits 1
│   ├── SettingsError       a setting is missing, malformed or contradicts another
│   ├── ArtifactError       an encoder artifact is absent, incomplete or altered
│   ├── DataFolderError     the data folder cannot be used (unwritable, taken by another process)
│   └── DatabaseDamaged     the database does not pass its own integrity check
├── RequestError            the request cannot be met; nothing was changed
│   ├── InvalidField        a field's value is wrong in a way its schema cannot say
│   ├── CollectionNotFound
│   ├── AnchorNotFound
│   ├── TooLarge            more was asked for than is done in one go
│   ├── JobNotFound
│   ├── JobNotDone          a job has no result: not yet, or never
│   ├── FeedbackNotFound
│   ├── ModelNotFound       `/v1/embeddings` was asked for another model than the one loaded
│   ├── DuplicatesRejected  `if_duplicate: reject` found duplicates
│   ├── IdempotencyConflict an idempotency key was used again with another request
│   └── CollectionProtected the default collection cannot be deleted
└── Unavailable             try again later
    ├── NotReady            still starting, or stopping
    ├── Overloaded          a queue is full
    └── StorageFailed       the database refused a write (disk full, input or output error)

Errors carry facts; `app.api.errors` alone knows which HTTP status they become.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.anchors import Match


class DejaError(Exception):
    """The base of every error raised on purpose."""


class StartupError(DejaError):
    """The service cannot start; the message is one line that names the remedy."""


class SettingsError(StartupError):
    """A setting is missing, malformed or contradicts another."""


class ArtifactError(StartupError):
    """An encoder artifact is absent, incomplete or altered.

    path: the file or folder at fault.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {problem}" + (f"; {remedy}" if remedy else ""))
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy


class DataFolderError(StartupError):
    """The data folder cannot be used."""


class DatabaseDamaged(StartupError):
    """The database does not pass its own integrity check."""

    def __init__(self, path: Path | str, finding: str) -> None:
        super().__init__(
            f"{path}: the database is damaged ({finding}); nothing was changed. "
            "Put back a backup of the whole data folder, or save what is readable with "
            f"`sqlite3 {path} .recover` and start on an empty folder"
        )
        self.path = str(path)
        self.finding = finding


class RequestError(DejaError):
    """The request cannot be met as it is; nothing was changed."""


class InvalidField(RequestError):
    """A field's value is wrong in a way its schema cannot say.

    loc: the path of the field, as in `("body", "anchors", 3, "id")`.
    """

    def __init__(self, loc: Sequence[str | int], problem: str) -> None:
        super().__init__(problem)
        self.loc = tuple(loc)
        self.problem = problem


class CollectionNotFound(RequestError):
    """No collection has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no collection named {name!r}; create it with PUT /v1/collections/{name}")
        self.name = name


class AnchorNotFound(RequestError):
    """No anchor of the collection has this id."""

    def __init__(self, collection: str, anchor_id: str) -> None:
        super().__init__(f"no anchor {anchor_id!r} in collection {collection!r}")
        self.collection = collection
        self.anchor_id = anchor_id


class TooLarge(RequestError):
    """More was asked for than is done in one go."""


class JobNotFound(RequestError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no job {job_id!r}; finished ones are kept for a while only, "
            "and go with their collection"
        )
        self.job_id = job_id


class JobNotDone(RequestError):
    """A job has no result: not yet, or never.

    state: what it is instead of done.
    """

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id!r} has no result: it is {state}")
        self.job_id = job_id
        self.state = state


class FeedbackNotFound(RequestError):
    """No feedback of the collection has this id."""

    def __init__(self, collection: str, feedback_id: str) -> None:
        super().__init__(f"no feedback {feedback_id!r} in collection {collection!r}")
        self.collection = collection
        self.feedback_id = feedback_id


class ModelNotFound(RequestError):
    """The model asked for is not the one loaded."""

    def __init__(self, asked: str, loaded: str) -> None:
        super().__init__(f"no model {asked!r}; the one loaded is {loaded!r}")
        self.asked = asked
        self.loaded = loaded


class DuplicatesRejected(RequestError):
    """`if_duplicate: reject` found duplicates.

    duplicates: (position in the request, the anchor it duplicates), in the request's order.
    """

    def __init__(self, duplicates: Sequence[tuple[int, Match]]) -> None:
        super().__init__(
            f"duplicates among the anchors of the request: {len(duplicates)}; nothing was stored"
        )
        self.duplicates = tuple(duplicates)


class IdempotencyConflict(RequestError):
    """An idempotency key was used again with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was already used with another request")
        self.key = key


class CollectionProtected(RequestError):
    """The default collection cannot be deleted."""

    def __init__(self, name: str) -> None:
        super().__init__(f"collection {name!r} always exists; delete its anchors instead")
        self.name = name


class Unavailable(DejaError):
    """The service cannot answer now; a later try may succeed.

    retry_after: seconds to wait before the next try.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(Unavailable):
    """The service is still starting, or stopping."""


class Overloaded(Unavailable):
    """A queue is full."""


class StorageFailed(Unavailable):
    """The database refused a write; nothing of the request was stored."""
