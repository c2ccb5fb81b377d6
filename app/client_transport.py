"""Requests that are tried again: when, how often, and after how long a wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.client_errors import ConnectionFailed, InvalidSetting, problem_of

LONGEST_WAIT = 60.0
"""Seconds; a service that asks for a longer wait is not waited for."""

_FIRST_BACKOFF = 0.25
_LONGEST_BACKOFF = 8.0
_BUSY = frozenset({429, 503})
_PROXY_FAILED = frozenset({502, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RetryingTransport:
    """Sends requests to one service; safe to use from several threads."""

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        timeout: float,
        transport: httpx.BaseTransport | None,
        tries: int,
        sleep: Callable[[float], object],
    ) -> None:
        self.address = _checked_address(base_url)
        self._tries = tries
        self._sleep = sleep
        # trust_env stays off: a client is what its arguments say, on every machine.
        self._http = httpx.Client(
            base_url=self.address,
            headers=_headers(key),
            timeout=timeout,
            transport=transport,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        safe_twice: bool,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        tries: int | None = None,
    ) -> httpx.Response:
        """Return a successful answer; everything else is raised.

        429 and 503 are tried again, as nothing was done; a broken connection only where the
        request is `safe_twice` or never left.
        """
        request = self._http.build_request(method, path, json=json, params=params, headers=headers)
        left = self._tries if tries is None else tries
        backoff = _FIRST_BACKOFF
        while True:
            left -= 1
            try:
                response = self._http.send(request, stream=stream)
                if response.is_success:
                    return response
                response.read()
                response.close()
            except httpx.RequestError as error:
                if left <= 0 or not (safe_twice or isinstance(error, _NEVER_SENT)):
                    raise ConnectionFailed(self.address, described(error)) from error
                wait = backoff
            else:
                asked = retry_after(response)
                wait = backoff if asked is None else asked
                again = response.status_code in _BUSY or (
                    safe_twice and response.status_code in _PROXY_FAILED
                )
                if left <= 0 or not again or wait > LONGEST_WAIT:
                    raise problem_of(response, asked)
            self._sleep(wait)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as a number or a date; else None."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def described(error: httpx.RequestError) -> str:
    """Return what went wrong with a connection, in a few words."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def _checked_address(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
        host = url.host  # decodes international names
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise InvalidSetting(f"not an address: {base_url!r} ({error})") from error
    if url.scheme not in {"http", "https"} or not host:
        raise InvalidSetting(
            f"not an address: {base_url!r}; it has to look like http://127.0.0.1:8000"
        )
    return base_url.rstrip("/")


def _headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSetting("not a key: it holds characters that a header cannot carry")
    return {"Authorization": f"Bearer {key}"}
