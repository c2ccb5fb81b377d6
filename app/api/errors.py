"""The one place that knows which HTTP status an error becomes (RFC 9457 problem details)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.schemas import match_out
from app.domain import errors
from app.domain.calibration import CalibrationError

log = logging.getLogger("deja.api")

# A problem names so many wrong fields; a body may have a hundred thousand.
ERRORS_LIMIT = 50

PROBLEM_JSON = "application/problem+json"
_OPENAI_PATHS = ("/v1/embeddings", "/v1/models")

# status, the last part of `type`, title
_KINDS: Mapping[type[Exception], tuple[int, str, str]] = {
    errors.InvalidField: (422, "invalid-request", "Invalid request"),
    CalibrationError: (422, "invalid-request", "Invalid request"),
    errors.CollectionNotFound: (404, "collection-not-found", "Collection not found"),
    errors.AnchorNotFound: (404, "anchor-not-found", "Anchor not found"),
    errors.TooLarge: (422, "too-large", "Too much at once"),
    errors.JobNotFound: (404, "job-not-found", "Job not found"),
    errors.JobNotDone: (409, "job-not-done", "Job has no result"),
    errors.FeedbackNotFound: (404, "feedback-not-found", "Feedback not found"),
    errors.ModelNotFound: (404, "model-not-found", "Model not found"),
    errors.DuplicatesRejected: (409, "duplicates", "Duplicates rejected"),
    errors.IdempotencyConflict: (422, "idempotency-conflict", "Idempotency key used again"),
    errors.CollectionProtected: (409, "collection-protected", "Collection cannot be deleted"),
    errors.NotReady: (503, "not-ready", "Not ready"),
    errors.Overloaded: (503, "overloaded", "Overloaded"),
    errors.StorageFailed: (503, "storage-failed", "Storage failed"),
    errors.Unavailable: (503, "unavailable", "Unavailable"),
}

_TITLES = {
    400: "Malformed request",
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timed out",
    413: "Body too large",
    500: "Internal error",
    503: "Overloaded",
}


def problem(
    path: str,
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """Return a problem, in OpenAI's shape for the routes that speak it."""
    if path.startswith(_OPENAI_PATHS):
        return _openai_error(status, kind, detail, headers, more)
    content = {
        "type": f"urn:deja:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }
    return JSONResponse(content, status, dict(headers or {}), media_type=PROBLEM_JSON)


def _openai_error(
    status: int, kind: str, detail: str, headers: Mapping[str, str] | None, more: dict[str, Any]
) -> JSONResponse:
    fields = more.get("errors", [])
    parameter = next((str(field["loc"][1]) for field in fields if len(field["loc"]) > 1), None)
    message = "; ".join(field["msg"] for field in fields) or detail
    of = "server_error" if status >= 500 else "invalid_request_error"
    code = kind.replace("-", "_")
    content = {"error": {"message": message, "type": of, "param": parameter, "code": code}}
    return JSONResponse(content, 400 if status == 422 else status, dict(headers or {}))


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""
    app.add_exception_handler(errors.DejaError, _on_domain_error)
    app.add_exception_handler(CalibrationError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_domain_error(request: Request, error: Exception) -> JSONResponse:
    for kind in type(error).__mro__:
        if kind in _KINDS:
            status, name, title = _KINDS[kind]
            break
    else:
        raise error
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.InvalidField):
        more["errors"] = [{"loc": list(error.loc), "msg": error.problem}]
    if isinstance(error, errors.DuplicatesRejected):
        more["duplicates"] = [
            {"index": place, "duplicate_of": match_out(match).model_dump(mode="json")}
            for place, match in error.duplicates
        ]
    return problem(request.url.path, status, name, title, str(error), headers=headers, **more)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [
        # Never the input itself: it may be long, secret, or not even valid Unicode.
        {"loc": list(field["loc"]), "msg": _words(field)}
        for field in error.errors()[:ERRORS_LIMIT]
    ]
    total = len(error.errors())
    if any(field["loc"] == ["body"] for field in fields) and not _says_json(request):
        detail = "send the body with the header `Content-Type: application/json`"
        return problem(request.url.path, 415, "not-json", "Unsupported media type", detail)
    shown = [f"{'.'.join(map(str, field['loc']))}: {field['msg']}" for field in fields[:3]]
    detail = "; ".join(shown)
    if total > 3:
        detail += f"; and {total - 3} more"
    kind, title = "invalid-request", "Invalid request"
    return problem(request.url.path, 422, kind, title, detail, errors=fields)


def _words(field: Mapping[str, Any]) -> str:
    message = str(field["msg"]).removeprefix("Value error, ")
    if field["type"] == "json_invalid":
        return f"{message} at character {field['loc'][-1]}: {field['ctx']['error']}"
    return message


def _says_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    title = _TITLES.get(error.status_code, "Error")
    kind = title.lower().replace(" ", "-")
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path}; GET /docs lists the routes"
    if error.status_code == 405:
        detail = f"{request.method} is not possible at {request.url.path}"
    return problem(request.url.path, error.status_code, kind, title, detail, headers=error.headers)
