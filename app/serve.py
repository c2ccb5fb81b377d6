"""`deja serve`: the service as a process, with one clear line for whatever prevents it."""

from __future__ import annotations

import errno
import gc
import logging
import signal
import socket
import sys

import uvicorn

from app.domain.errors import DejaError, SettingsError, StartupError
from app.index.freeing import give_back_when_freed
from app.main import create_app
from app.runtime import Runtime, open_runtime
from app.settings import Settings, load_settings, unknown_variables

log = logging.getLogger("deja")

GRACEFUL_SECONDS = 10


def serve() -> int:
    """Run the service until it is told to stop; return the exit status."""
    give_back_when_freed()
    try:
        settings = load_settings()
        _configure_logging(settings)
        for name in unknown_variables():
            log.warning("%s is no setting of this service; is it misspelt?", name)
        listener = _listen(settings)
        try:
            runtime = open_runtime(settings)
        except BaseException:
            listener.close()
            raise
    except DejaError as error:
        sys.stderr.write(f"deja: {error}\n")
        return 1
    return _run(settings, runtime, listener)


def _run(settings: Settings, runtime: Runtime, listener: socket.socket) -> int:
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, runtime),
            log_config=None,
            access_log=settings.access_log,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            server_header=False,
            lifespan="on",
        )
    )
    failure: list[BaseException] = []

    def stop(error: BaseException) -> None:
        failure.append(error)
        server.should_exit = True

    runtime.on_failure = stop
    # When it has stopped in good order, uvicorn raises the signal once more for whoever was there
    # before it; the default would turn an exit status of 0 into "killed by signal 15".
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _greet(settings, runtime, listener)
    _calm_garbage_collector()
    server.run(sockets=[listener])
    return 1 if failure or not server.started else 0


def _calm_garbage_collector() -> None:
    """Let the garbage collector look less often, and never at what was made before now.

    It stops every thread while it looks. The libraries' objects, some hundred thousand, will never
    be garbage, and requests leave hardly any cycles behind: the
    pauses it makes otherwise are most of p99 under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _listen(settings: Settings) -> socket.socket:
    """Return a listening socket. Raises StartupError, naming the address and the remedy."""
    at = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(f"DEJA_HOST={settings.host}: not an address of this machine") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"{at} is in use by another process; choose another port with DEJA_PORT"
            ) from error
        raise StartupError(
            f"cannot listen on {at} ({error.strerror}); choose another with DEJA_HOST or DEJA_PORT"
        ) from error
    return listener


def _greet(settings: Settings, runtime: Runtime, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    key = " -H 'Authorization: Bearer KEY'" if runtime.key else ""
    log.info(
        "Deja on %s, encoder %s, data in %s, %d threads\n"
        "Ask it something:\n"
        "  curl -s %s/v1/collections/default/duplicates%s"
        " -H 'Content-Type: application/json' -d '{\"question\": \"How old are you?\"}'\n"
        "Routes: %s/docs",
        url,
        runtime.encoder.name,
        settings.data_dir,
        settings.threads,
        url,
        key,
        url,
    )


def _configure_logging(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)-8s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # Its start and stop lines repeat ours.
    logging.getLogger("uvicorn.error").setLevel(
        "INFO" if settings.log_level == "debug" else "WARNING"
    )
