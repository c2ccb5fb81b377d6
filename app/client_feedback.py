"""The client's calls about feedback, and about what it does to a calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    def get_calibration(self, collection: str = "default") -> dict[str, Any]:
        """Return a collection's own correction, and the cut-offs in force."""
        return self._object("GET", f"{collection_path(collection)}/calibration", needs="cut_offs")

    def put_calibration(
        self, correction: Mapping[str, Any], *, collection: str = "default", dry_run: bool = False
    ) -> dict[str, Any]:
        """Return what a collection judges by once its correction is set.

        correction: `intercept`, `slope`, `encoder` (its fingerprint) and `verdicts`;
        dry_run: only answer as if it were set.
        """
        path = f"{collection_path(collection)}/calibration"
        params = {"dry_run": "true"} if dry_run else None
        return self._object("PUT", path, dict(correction), needs="cut_offs", params=params)

    def delete_calibration(self, collection: str = "default") -> None:
        """Go back to the calibration that came with the encoder."""
        self._http.send("DELETE", f"{collection_path(collection)}/calibration", safe_twice=True)


def _feedback(collection: str, feedback_id: str) -> str:
    return f"{collection_path(collection)}/feedback/{quote(feedback_id, safe='')}"
