"""Every error the client raises, and how an answer becomes one.

DejaClientError
├── InvalidSetting      the address or the key cannot be used; no request was made
├── ConnectionFailed    no answer came, or it broke off
├── UnexpectedAnswer    an answer came that is not Deja's
└── ProblemError        the service refused (application/problem+json)
    ├── Unauthorized    401: no key, or not a valid one
    ├── Forbidden       403: the key does not allow this
    ├── NotFound        404: no such collection or anchor
    ├── Conflict        409: duplicates rejected, a collection that cannot go
    ├── TooLarge        413: the body is over the limit
    ├── Invalid         422: the request is wrong; `errors` says which fields
    └── Unavailable     429, 503: try again later
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_SHOWN_ERRORS = 3


class DejaClientError(Exception):
    """The base of every error of the client; the message is one readable line."""


class InvalidSetting(DejaClientError, ValueError):
    """The address or the key cannot be used."""


class ConnectionFailed(DejaClientError):
    """No answer came, or it broke off.

    address: the service's base address.
    """

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(
            f"cannot reach Deja at {address} ({problem}); "
            "start it with `deja serve`, or give the address of a running one"
        )
        self.address = address
        self.problem = problem


class UnexpectedAnswer(DejaClientError):
    """An answer came that is not Deja's: another service, or another version of it."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"{address} did not answer like Deja: {problem}")
        self.address = address


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request.

    loc: its path, as in `("body", "anchors", 3, "id")`.
    """

    loc: tuple[str | int, ...]
    msg: str

    def __str__(self) -> str:
        """Return `path: message`."""
        return f"{'.'.join(map(str, self.loc))}: {self.msg}" if self.loc else self.msg


class ProblemError(DejaClientError):
    """The service refused a request.

    retry_after: seconds the service asked to wait, None where it did not.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: tuple[FieldError, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        said = f"{status} {title}" + (f": {detail}" if detail and detail != title else "")
        # A detail often lists the fields itself.
        shown = () if errors and str(errors[0]) in detail else errors
        named = "; ".join(map(str, shown[:_SHOWN_ERRORS]))
        if len(shown) > _SHOWN_ERRORS:
            named += f"; and {len(shown) - _SHOWN_ERRORS} more"
        message = said + (f" ({named})" if named else "")
        if request_id:
            message += f" [request {request_id}]"
        super().__init__(" ".join(message.split()))
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.request_id = request_id
        self.retry_after = retry_after


class Unauthorized(ProblemError):
    """No key was given, or not a valid one."""


class Forbidden(ProblemError):
    """The key does not allow this."""


class NotFound(ProblemError):
    """There is no such collection or anchor."""


class Conflict(ProblemError):
    """The request contradicts what is stored; nothing was changed."""


class TooLarge(ProblemError):
    """The body is over the service's limit."""


class Invalid(ProblemError):
    """The request is wrong; `errors` says which fields, where it is about fields."""


class Unavailable(ProblemError):
    """The service cannot answer now; a later try may succeed."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: Unavailable,
    503: Unavailable,
}


def problem_of(response: httpx.Response, retry_after: float | None) -> ProblemError:
    """Return the error that a refusal stands for; its body must have been read.

    Answers of a proxy, which are no problem documents, still become one from their status.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    if isinstance(fields.get("error"), dict):  # the OpenAI-compatible routes answer in this shape
        fields = {"detail": fields["error"].get("message")}
    kind = _BY_STATUS.get(response.status_code, ProblemError)
    return kind(
        response.status_code,
        str(fields.get("title") or response.reason_phrase or "refused"),
        str(fields.get("detail") or ""),
        errors=tuple(_field_errors(fields.get("errors"))),
        request_id=response.headers.get("X-Request-ID"),
        retry_after=retry_after,
    )


def _field_errors(errors: object) -> list[FieldError]:
    if not isinstance(errors, list):
        return []
    return [
        FieldError(tuple(error.get("loc") or ()), str(error.get("msg", "")))
        for error in errors
        if isinstance(error, dict)
    ]
