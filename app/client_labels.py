"""The client's calls about labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from app.client_calls import Calls, collection_path
from app.client_types import LabelAnswer


class LabelCalls(Calls):
    """Telling which label texts belong to."""

    def label(
        self,
        text: str,
        *,
        collection: str = "default",
        limit: int = 5,
        min_probability: float = 0.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> LabelAnswer:
        """Return which label a text belongs to, out of those known from their anchors, or none.

        limit: labels to list at most. min_probability: a label less likely is not given.
        metadata: only anchors equal in these are looked at.
        """
        body = {"text": text, **_narrowing(limit, min_probability, metadata)}
        path = f"{collection_path(collection)}/label"
        return cast("LabelAnswer", self._object("POST", path, body, needs="none"))

    def label_batch(
        self,
        texts: Sequence[str],
        *,
        collection: str = "default",
        limit: int = 5,
        min_probability: float = 0.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[LabelAnswer]:
        """Return the answer for each of up to 256 texts, in their order."""
        body = {"texts": list(texts), **_narrowing(limit, min_probability, metadata)}
        path = f"{collection_path(collection)}/label:batch"
        return cast("list[LabelAnswer]", self._list("POST", path, body, "results"))


def _narrowing(
    limit: int, min_probability: float, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"limit": limit, "min_probability": min_probability}
    if metadata:
        body["filter"] = {"metadata": dict(metadata)}
    return body
