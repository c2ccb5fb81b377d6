"""Exit with 0 when the service in this container answers /readyz with 200, else say why not.

It runs every few seconds, so it imports next to nothing: Python without its site packages, and a
plain socket, since an HTTP client would be most of its running time.
"""  # noqa: INP001 - run by its path, in no package

import os
import socket
import sys

REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
TIMEOUT = 2.0


def problem(port: int) -> str | None:
    """Return None where the service on `port` is ready, else what is the matter with it."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(REQUEST)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as error:
        return f"nothing answers on port {port} ({error})"
    if answer.startswith(b"HTTP/1.1 200 "):
        return None
    return answer.partition(b"\r\n\r\n")[2].decode(errors="replace") or "an empty answer"


if __name__ == "__main__":
    found = problem(int(os.environ.get("DEJA_PORT") or 8000))
    if found is not None:
        sys.exit(found)
