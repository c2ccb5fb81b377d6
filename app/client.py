"""The Python client of the service.

    with DejaClient("http://127.0.0.1:8000") as deja:
        deja.register([{"text": "What is your age?", "label": "age"}])
        print(deja.duplicates("How old are you?")["verdict"])

Its errors are in `app.client_errors`, the types of its answers in `app.client_types`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from app.client_calls import collection_path
from app.client_errors import (
    Conflict,
    ConnectionFailed,
    DejaClientError,
    FieldError,
    Forbidden,
    Invalid,
    InvalidSetting,
    NotFound,
    ProblemError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from app.client_feedback import FeedbackCalls
from app.client_labels import LabelCalls
from app.client_transport import RetryingTransport
from app.client_types import (
    Anchor,
    AnchorDraft,
    Answer,
    Collection,
    Comparison,
    Feedback,
    FeedbackPair,
    IfDuplicateName,
    LabelAnswer,
    Registered,
)

__all__ = [
    "Anchor",
    "AnchorDraft",
    "Answer",
    "Collection",
    "Comparison",
    "Conflict",
    "ConnectionFailed",
    "DejaClient",
    "DejaClientError",
    "Feedback",
    "FeedbackPair",
    "FieldError",
    "Forbidden",
    "Invalid",
    "InvalidSetting",
    "LabelAnswer",
    "NotFound",
    "ProblemError",
    "Registered",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
]

_PAGE = 1000


class DejaClient(FeedbackCalls, LabelCalls):
    """One service, over HTTP; safe to use from several threads.

    timeout: seconds without a byte before a request counts as failed.
    tries: how often a request is sent at most, the first time included.
    sleep: waits between two tries, in seconds.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        tries: int = 4,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._http = RetryingTransport(
            base_url, key=key, timeout=timeout, transport=transport, tries=tries, sleep=sleep
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def duplicates(
        self,
        question: str,
        *,
        collection: str = "default",
        limit: int = 10,
        min_similarity: float | None = None,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        explain: bool = False,
    ) -> Answer:
        """Return the likely duplicates of a question, best first.

        min_similarity: cosine, -1 to 1; None for no threshold.
        label, metadata: only anchors equal in these are looked at.
        explain: whether each match says what its probability is made of.
        """
        body = {"question": question, **_search(limit, min_similarity, label, metadata)}
        if explain:
            body["explain"] = True
        path = f"{collection_path(collection)}/duplicates"
        return cast("Answer", self._object("POST", path, body, needs="matches"))

    def duplicates_batch(
        self,
        questions: Sequence[str],
        *,
        collection: str = "default",
        limit: int = 10,
        min_similarity: float | None = None,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        explain: bool = False,
    ) -> list[Answer]:
        """Return the answer for each of up to 256 questions, in their order."""
        body = {"questions": list(questions), **_search(limit, min_similarity, label, metadata)}
        if explain:
            body["explain"] = True
        path = f"{collection_path(collection)}/duplicates:batch"
        return cast("list[Answer]", self._list("POST", path, body, "results"))

    def register(
        self,
        anchors: Sequence[AnchorDraft],
        *,
        collection: str = "default",
        if_duplicate: IfDuplicateName = "register",
        idempotency_key: str | None = None,
    ) -> list[Registered]:
        """Return what became of each of up to 1,000 anchors, in their order; all or none is stored.

        A broken connection is tried again only where that cannot store an anchor twice: with an
        idempotency key, or if every anchor has an id. Raises Conflict by `reject`.
        """
        body = {"anchors": list(anchors), "if_duplicate": if_duplicate}
        results = self._list(
            "POST",
            f"{collection_path(collection)}/anchors",
            body,
            "results",
            safe_twice=idempotency_key is not None or all(a.get("id") for a in anchors),
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
        )
        if len(results) != len(anchors):
            problem = f"{len(results)} results for {len(anchors)} anchors"
            raise UnexpectedAnswer(self.address, problem)
        return cast("list[Registered]", results)

    def put_anchor(
        self,
        anchor_id: str,
        text: str,
        *,
        collection: str = "default",
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Anchor:
        """Return the anchor as stored, created or replaced."""
        body = {"text": text, "label": label, "metadata": dict(metadata or {})}
        path = _anchor(collection, anchor_id)
        return cast("Anchor", self._object("PUT", path, body, needs="id"))

    def get_anchor(self, anchor_id: str, *, collection: str = "default") -> Anchor:
        """Return an anchor. Raises NotFound."""
        return cast("Anchor", self._object("GET", _anchor(collection, anchor_id), needs="id"))

    def delete_anchor(self, anchor_id: str, *, collection: str = "default") -> None:
        """Delete an anchor. Raises NotFound, also where a retry finds its own work done."""
        self._http.send("DELETE", _anchor(collection, anchor_id), safe_twice=True)

    def anchors(self, collection: str = "default", label: str | None = None) -> Iterator[Anchor]:
        """Yield the anchors of a collection, a page at a time, as they are when it is read."""
        params: dict[str, Any] = {"limit": _PAGE}
        if label is not None:
            params["label"] = label
        while True:
            path = f"{collection_path(collection)}/anchors"
            page = self._object("GET", path, params=params, needs="anchors")
            yield from cast("list[Anchor]", page["anchors"])
            if page.get("next_cursor") is None:
                return
            params["cursor"] = page["next_cursor"]

    def export(self, collection: str = "default") -> Iterator[Anchor]:
        """Yield all anchors of one moment. Raises ConnectionFailed if the stream breaks off."""
        yield from self._records(f"{collection_path(collection)}/anchors:export")

    def export_lines(self, collection: str = "default") -> Iterator[bytes]:
        """Yield all anchors of one moment as lines of JSON without line ends, as they came."""
        yield from self._lines(f"{collection_path(collection)}/anchors:export")

    def collections(self) -> list[Collection]:
        """Return every collection, with settings and counts."""
        return self._list("GET", "/v1/collections", None, "collections")

    def put_collection(self, name: str, **settings: float | None) -> Collection:
        """Return the collection, created or with its settings replaced.

        settings: `duplicate_at`, `review_at`, or the aims `duplicate_precision`, `review_recall`;
        `base_rate`; all 0 to 1.
        """
        return self._object("PUT", collection_path(name), settings)

    def get_collection(self, name: str) -> Collection:
        """Return a collection's settings and counts. Raises NotFound."""
        return self._object("GET", collection_path(name))

    def delete_collection(self, name: str) -> None:
        """Delete a collection with all its anchors. Raises NotFound."""
        self._http.send("DELETE", collection_path(name), safe_twice=True)

    def compare(
        self, pairs: Iterable[tuple[str, str]], *, explain: bool = False
    ) -> list[Comparison]:
        """Return how alike the texts of each of up to 256 pairs are, in their order.

        explain: whether each says what its probability is made of.
        """
        body: dict[str, Any] = {"pairs": [{"left": left, "right": right} for left, right in pairs]}
        if explain:
            body["explain"] = True
        return cast("list[Comparison]", self._list("POST", "/v1/compare", body, "results"))

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> list[list[float]]:
        """Return a unit vector for each of up to 256 texts, in their order.

        model: the encoder's name; None asks the service which one it has.
        """
        if model is None:
            model = str(self._list("GET", "/v1/models", None, "data")[0]["id"])
        body = {"input": list(texts), "model": model, "encoding_format": "float"}
        data = self._list("POST", "/v1/embeddings", body, "data")
        return [item["embedding"] for item in sorted(data, key=lambda item: item["index"])]

    def info(self) -> dict[str, Any]:
        """Return the versions of the service and of its encoder."""
        return self._object("GET", "/v1/info")

    def ready(self) -> bool:
        """Return whether the service takes requests now; it is asked once, without waiting."""
        try:
            self._http.send("GET", "/readyz", safe_twice=True, tries=1)
        except Unavailable:
            return False
        return True


def _anchor(collection: str, anchor_id: str) -> str:
    return f"{collection_path(collection)}/anchors/{quote(anchor_id, safe='')}"


def _search(
    limit: int,
    min_similarity: float | None,
    label: str | None,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    body: dict[str, Any] = {"limit": limit}
    if min_similarity is not None:
        body["min_similarity"] = min_similarity
    where: dict[str, Any] = {}
    if label is not None:
        where["label"] = label
    if metadata:
        where["metadata"] = dict(metadata)
    if where:
        body["filter"] = where
    return body
