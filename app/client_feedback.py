"""The client's calls about feedback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

from app.client_calls import Calls, collection_path
from app.client_types import Feedback, FeedbackPair, JudgedName

_PAGE = 1000


class FeedbackCalls(Calls):
    """Giving, reading and withdrawing verdicts."""

    def give_feedback(
        self, question: str, anchor_id: str, verdict: JudgedName, *, collection: str = "default"
    ) -> Feedback:
        """Return a person's verdict as stored, and in `status` what became of it.

        Of one pair of texts the latest verdict stays. Raises NotFound for an unknown anchor.
        """
        body = {"question": question, "anchor_id": anchor_id, "verdict": verdict}
        path = f"{collection_path(collection)}/feedback"
        return cast("Feedback", self._object("POST", path, body, needs="status"))

    def get_feedback(self, feedback_id: str, *, collection: str = "default") -> Feedback:
        """Return one verdict. Raises NotFound."""
        path = _feedback(collection, feedback_id)
        return cast("Feedback", self._object("GET", path, needs="verdict"))

    def withdraw_feedback(self, feedback_id: str, *, collection: str = "default") -> None:
        """Delete a verdict. Raises NotFound, also where a retry finds its own work done."""
        self._http.send("DELETE", _feedback(collection, feedback_id), safe_twice=True)

    def feedback(self, collection: str = "default") -> Iterator[Feedback]:
        """Yield the verdicts of a collection, the oldest first, a page at a time."""
        params: dict[str, Any] = {"limit": _PAGE}
        while True:
            path = f"{collection_path(collection)}/feedback"
            page = self._object("GET", path, params=params, needs="feedback")
            yield from cast("list[Feedback]", page["feedback"])
            if page.get("next_cursor") is None:
                return
            params["cursor"] = page["next_cursor"]

    def export_feedback(self, collection: str = "default") -> Iterator[FeedbackPair]:
        """Yield all feedback of one moment as labelled pairs.

        Raises ConnectionFailed if the stream breaks off.
        """
        yield from self._records(f"{collection_path(collection)}/feedback:export")

    def export_feedback_lines(self, collection: str = "default") -> Iterator[bytes]:
        """Yield all feedback of one moment as lines of JSON without line ends, as they came."""
        yield from self._lines(f"{collection_path(collection)}/feedback:export")


def _feedback(collection: str, feedback_id: str) -> str:
    return f"{collection_path(collection)}/feedback/{quote(feedback_id, safe='')}"
