"""What the parts of the client share: one request, one answer, checked for its shape."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from app.client_errors import ConnectionFailed, UnexpectedAnswer
from app.client_transport import RetryingTransport, described


class Calls:
    """Requests to one service."""

    _http: RetryingTransport

    @property
    def address(self) -> str:
        """Return the service's base address."""
        return self._http.address

    def _object(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        needs: str | None = None,
        safe_twice: bool = True,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        response = self._http.send(
            method, path, safe_twice=safe_twice, json=body, params=params, headers=headers
        )
        try:
            answer = response.json()
        except ValueError as error:
            raise UnexpectedAnswer(self.address, f"{path} is not JSON") from error
        if not isinstance(answer, dict) or (needs is not None and needs not in answer):
            raise UnexpectedAnswer(self.address, f"{path} has no {needs or 'object'!r}")
        return answer

    def _list(
        self,
        method: str,
        path: str,
        body: object,
        name: str,
        *,
        safe_twice: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        answer = self._object(
            method, path, body, needs=name, safe_twice=safe_twice, headers=headers
        )
        items = answer[name]
        if not isinstance(items, list):
            raise UnexpectedAnswer(self.address, f"{path}: {name!r} is not a list")
        return items

    def _lines(self, path: str) -> Iterator[bytes]:
        """Yield the lines of a stream without line ends, as they came."""
        response = self._http.send("GET", path, safe_twice=True, stream=True)
        # httpx's own iter_lines would also split at U+2028 and its like, which JSON may hold.
        rest = b""
        try:
            for chunk in response.iter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from filter(None, lines)
        except httpx.RequestError as error:
            raise ConnectionFailed(self.address, described(error)) from error
        finally:
            response.close()
        if rest:
            yield rest

    def _records(self, path: str) -> Iterator[Any]:
        """Yield the JSON of each line of a stream."""
        for line in self._lines(path):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UnexpectedAnswer(self.address, f"not JSON: {line[:80]!r}") from error


def collection_path(name: str) -> str:
    """Return the path of a collection."""
    return f"/v1/collections/{quote(name, safe='')}"
