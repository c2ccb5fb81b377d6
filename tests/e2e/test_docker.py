"""The service and training in containers of a real engine: `make test-docker`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app import DEFAULT_ENCODER
from tests.e2e.compose import (
    TAG,
    Compose,
    build,
    docker,
    inspect,
    one_line,
    project,
    said,
    why_no_engine,
)

# Marked, not left uncollected: pytest calls a run in which nothing is collected a failure.
WHY_NOT = (
    why_no_engine()
    if os.environ.get("TEST_DOCKER")
    else "builds images and runs containers: make test-docker"
)
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")

SHIPPED = DEFAULT_ENCODER
ANCHORS = "/v1/collections/default/anchors"
DUPLICATES = "/v1/collections/default/duplicates"
QUESTIONS = {
    "password": "How do I reset my password?",
    "invoice": "Where can I see my invoices?",
    "cancel": "How can I cancel my subscription?",
}
# What may lie on the base image, in bytes: python:3.11-slim-bookworm has about 130 MB of the 450.
LARGEST_SERVICE = 320e6

Project = Callable[..., Compose]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="session")
def service_image(folder: Path) -> str:
    build("deja", folder=folder)
    return f"deja:{TAG}"


@pytest.fixture(scope="session")
def training_image(folder: Path) -> str:
    build("train", folder=folder)
    return f"deja-training:{TAG}"


@pytest.fixture
def compose(service_image: str, folder: Path) -> Iterator[Project]:
    """Return what makes projects, each removed with its volumes afterwards."""
    assert service_image
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(project(folder, **settings))


@pytest.fixture(scope="module")
def running(service_image: str, folder: Path) -> Iterator[Compose]:
    """Yield a service for tests that only look at it."""
    assert service_image
    with project(folder) as made, made.serving():
        yield made


def register(http: httpx.Client) -> None:
    anchors = [{"id": name, "text": text, "label": name} for name, text in QUESTIONS.items()]
    assert http.post(ANCHORS, json={"anchors": anchors}).status_code == 201


def stored(http: httpx.Client) -> dict[str, str]:
    page = http.get(ANCHORS).json()["anchors"]
    return {anchor["id"]: anchor["text"] for anchor in page}


def test_it_serves_and_a_kill_loses_nothing(compose: Project) -> None:
    """Up, register, ask; `docker kill`; up again: the anchors are there and are found."""
    made = compose()
    with made.serving() as http:
        register(http)
        body = {"question": "I forgot my password, how do I reset it?"}
        answer = http.post(DUPLICATES, json=body).json()
        assert answer["matches"][0]["id"] == "password"
        assert answer["encoder"] == SHIPPED
        docker("kill", made.container())
        with pytest.raises(httpx.TransportError):
            http.get("/livez")
    assert inspect(made.container())["State"]["ExitCode"] == 137
    with made.serving() as http:
        assert stored(http) == QUESTIONS
        assert http.post(DUPLICATES, json=body).json() == answer


def test_it_stops_within_seconds_and_finishes_what_it_accepted(compose: Project) -> None:
    """SIGTERM reaches the process, the first of its container; a request under way is answered."""
    made = compose()
    with made.serving() as http:
        assert made.inside("cat", "/proc/1/comm").stdout.strip() == "deja"
        anchors = [{"id": f"a{i}", "text": f"Question {i} {'word ' * 60}"} for i in range(300)]
        answers: list[int] = []
        request = threading.Thread(
            target=lambda: answers.append(http.post(ANCHORS, json={"anchors": anchors}).status_code)
        )
        request.start()
        time.sleep(0.5)
        assert not answers
        began = time.monotonic()
        assert made("stop").returncode == 0
        took = time.monotonic() - began
        request.join()
    assert answers == [201]
    assert took < 5
    assert inspect(made.container())["State"]["ExitCode"] == 0
    with made.serving() as http:
        assert http.get("/v1/collections/default").json()["anchors"] == 300


def test_only_this_machine_reaches_it(running: Compose) -> None:
    """The port is bound to the loopback address; another address of the machine refuses."""
    ports = inspect(running.container())["NetworkSettings"]["Ports"]
    assert ports == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(running.port)}]}
    outward = address_outward()
    if outward is not None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((outward, running.port), 5)


def address_outward() -> str | None:
    """Return this machine's address on its network; a UDP socket sends nothing to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def test_its_process_may_do_next_to_nothing(running: Compose) -> None:
    """An account of its own, no capabilities, none to be gained, bounded memory and processes."""
    status = dict(
        line.split(":\t", 1)
        for line in running.inside("cat", "/proc/1/status").stdout.splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"
    limits = inspect(running.container())["HostConfig"]
    assert limits["Memory"] == 2 * 2**30
    assert limits["PidsLimit"] == 1024


@pytest.mark.parametrize("path", ["/file", "/opt/deja/file", "/encoders/file"])
def test_it_writes_nowhere_but_into_its_data_and_tmp(running: Compose, path: str) -> None:
    """The root file system is read-only, and so are the encoders as the service sees them."""
    refused = running.inside("touch", path)
    assert refused.returncode != 0
    assert "Read-only file system" in said(refused)
    for allowed in ("/tmp/file", "/data/file"):  # noqa: S108 - of the container
        done = running.inside("touch", allowed)
        assert done.returncode == 0, said(done)
        assert running.inside("rm", allowed).returncode == 0


def test_the_image_holds_the_service_and_little_else(service_image: str) -> None:
    """No torch, no training, no caches, no tests, nothing of the repository; it is small."""
    packages = in_image(service_image, "ls /opt/deja/lib/python3*/site-packages").split()
    assert {"app", "faiss", "onnxruntime"} <= set(packages)
    assert not {"torch", "training", "transformers", "sentence_transformers"} & set(packages)
    assert in_image(service_image, "find /opt/deja -name tests -o -name deja-train") == ""
    caches = (
        "find /root /tmp /data /encoders /runs -type f | grep -v '/root/[.]\\(bashrc\\|profile\\)$'"
    )
    assert in_image(service_image, f"{caches}; true") == ""
    assert in_image(service_image, "find / -xdev -name .git -o -xdev -name .env") == ""
    added = sum(layers_of_ours(service_image))
    assert added < LARGEST_SERVICE, f"{added / 1e6:.0f} MB above the base image"


def in_image(image: str, script: str) -> str:
    """Return what a shell script prints in a container of an image."""
    user = ("--user", "0", "--network", "none", "--entrypoint", "sh")
    return docker("run", "--rm", *user, image, "-c", script)


def layers_of_ours(image: str) -> Iterator[int]:
    """Yield the bytes of each layer above the base image, the newest first."""
    history = docker("history", "--human=false", "--no-trunc", "--format", "{{json .}}", image)
    for layer in map(json.loads, history.splitlines()):
        yield int(layer["Size"])
        if "groupadd --gid 10001" in layer["CreatedBy"]:
            return
    raise AssertionError("the first step of the Dockerfile is not in the image's history")


def test_the_image_says_what_it_is(service_image: str) -> None:
    """Labels, the account, and a health check by the image's own Python."""
    config = inspect(service_image)["Config"]
    assert config["Labels"]["org.opencontainers.image.title"] == "Deja"
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "/opt/deja/bin/python"]


def test_the_image_alone_is_closed(service_image: str) -> None:
    """Without the compose file nothing says DEJA_AUTH=off, so it asks for a key and ends."""
    refused = run_image("--tmpfs", "/data:uid=10001", service_image)
    assert refused.returncode == 1
    assert "DEJA_ADMIN_KEY" in one_line(said(refused), "deja: ")


def run_image(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return how a container that should end by itself ended; one that does not is removed."""
    name = f"deja-test-{uuid.uuid4().hex[:12]}"
    command = ["docker", "run", "--name", name, "--read-only", "--tmpfs", "/tmp", *arguments]  # noqa: S108
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        docker("rm", "--force", name)


def test_a_key_in_env_closes_it(compose: Project) -> None:
    """With nothing else changed; the health check needs no key."""
    made = compose(DEJA_ADMIN_KEY="a-key-for-this-test")
    with made.serving() as http:
        assert http.get("/v1/info").status_code == 401
        http.headers["Authorization"] = "Bearer a-key-for-this-test"
        assert http.get("/v1/info").status_code == 200


@pytest.mark.parametrize("test", [["CMD", "false"], ["CMD", "/no/such/program"]])
def test_a_broken_health_check_is_no_success(compose: Project, test: list[str]) -> None:
    """`up --wait` fails, though the service itself answers."""
    made = compose()
    healthcheck = {"test": test, "interval": "1s", "retries": 2, "start_period": "1s"}
    made.add({"services": {"deja": {"healthcheck": healthcheck}}})
    started = made.up()
    assert started.returncode != 0
    assert "unhealthy" in said(started)
    assert httpx.get(f"{made.url}/readyz").status_code == 200


def test_a_service_that_hangs_becomes_unhealthy(compose: Project) -> None:
    """The health check asks the service itself, and believes no port that is merely open."""
    made = compose()
    healthcheck = {"interval": "1s", "retries": 1, "timeout": "2s"}
    made.add({"services": {"deja": {"healthcheck": healthcheck}}})
    with made.serving():
        docker("kill", "--signal", "STOP", made.container())
        assert health(made, "unhealthy", 20)
        docker("kill", "--signal", "CONT", made.container())
        assert health(made, "healthy", 20)


def health(made: Compose, wanted: str, seconds: float) -> bool:
    """Return whether the service's container gets into a state of health in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if inspect(made.container())["State"]["Health"]["Status"] == wanted:
            return True
        time.sleep(0.2)
    return False


def test_a_wrong_encoder_name_is_one_line_and_an_exit(compose: Project) -> None:
    """The line names it and those that are known; nothing is served."""
    made = compose(DEJA_ENCODER="no-such-encoder")
    done = made("run", "--rm", "--no-TTY", "deja")
    assert done.returncode == 1
    line = one_line(said(done), "deja: ")
    assert "no-such-encoder" in line
    assert f"known names: all-minilm-l6-v2, {SHIPPED}" in line
    before = time.monotonic()
    started = made.up(80)
    assert started.returncode != 0
    # It ended by itself, not because the waiting did.
    assert time.monotonic() - before < 60
    assert "no-such-encoder" in made.log()


@pytest.mark.parametrize(
    ("given", "auth", "key"),
    [
        ({}, "off", None),
        ({"DEJA_AUTH": "on"}, "on", None),
        ({"DEJA_ADMIN_KEY": "'a$HOME$$-key'"}, None, "a$HOME$$-key"),
        ({"DEJA_AUTH": "on", "DEJA_ADMIN_KEY": "a-key"}, None, "a-key"),
    ],
)
def test_what_env_says_of_keys_reaches_the_service(
    folder: Path, given: dict[str, str], auth: str | None, key: str | None
) -> None:
    """Open only where nothing is said; a key in single quotes is taken as it stands."""
    done = Compose(folder, **given)("config", "--format", "json")
    assert done.returncode == 0, said(done)
    found = json.loads(done.stdout)["services"]["deja"]["environment"]
    assert found.get("DEJA_AUTH") == auth
    # Compose prints a $ as $$, so that what it prints can be read again.
    assert (found["DEJA_ADMIN_KEY"] or "").replace("$$", "$") == (key or "")


def test_a_key_asked_for_and_not_given_is_one_line_and_an_exit(compose: Project) -> None:
    """DEJA_AUTH=on is not overruled by the compose file."""
    done = compose(DEJA_AUTH="on")("run", "--rm", "--no-TTY", "deja")
    assert done.returncode == 1
    assert "DEJA_ADMIN_KEY" in one_line(said(done), "deja: ")


def test_a_key_file_that_is_not_there_is_one_line_and_an_exit(compose: Project) -> None:
    """It is never taken for no key."""
    made = compose(DEJA_ADMIN_KEY_FILE="/run/secrets/key")
    done = made("run", "--rm", "--no-TTY", "deja")
    assert done.returncode == 1
    assert "/run/secrets/key" in one_line(said(done), "deja: ")


def test_an_unwritable_volume_is_one_line_and_an_exit(service_image: str, compose: Project) -> None:
    """Here one that belongs to root, as a folder of the machine would if Docker made it."""
    made = compose()
    give_to_root(made, "data", service_image)
    done = made("run", "--rm", "--no-TTY", "deja")
    assert done.returncode == 1
    assert "/data: the data folder cannot be written" in one_line(said(done), "deja: ")


def give_to_root(made: Compose, volume: str, image: str) -> None:
    """Make a volume as it would be if root had used it; an empty one is ours again when mounted."""
    mount = ("--volume", f"{made.name}_{volume}:/volume")
    user = ("--user", "0", "--network", "none", "--entrypoint", "sh")
    script = "touch /volume/of-root && chown 0:0 /volume && chmod 755 /volume"
    service = "deja" if volume == "data" else "train"
    assert made("--profile", "*", "create", service).returncode == 0
    docker("run", "--rm", *user, *mount, image, "-c", script)


def test_a_taken_port_is_said_and_nothing_runs(compose: Project) -> None:
    """Of the machine: Docker says which; the command fails."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        made = compose(DEJA_PORT=str(port))
        started = made.up(30)
    assert started.returncode != 0
    assert f"127.0.0.1:{port}" in said(started)
    assert "address already in use" in said(started)


def test_a_port_taken_inside_is_one_line_and_an_exit(service_image: str) -> None:
    """On the network of the machine the service itself meets another that listens."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 - the service asks for all addresses as well
        other.listen()
        port = other.getsockname()[1]
        listening = docker(
            *("run", "--rm", "--network", "host", "--entrypoint", "cat"),
            *(service_image, "/proc/net/tcp"),
        )
        if f"00000000:{port:04X} 00000000:0000 0A" not in listening:
            pytest.skip("the engine's host network is not this machine's")
        settings = ("--env", f"DEJA_PORT={port}", "--env", "DEJA_AUTH=off")
        done = run_image(
            "--network", "host", "--tmpfs", "/data:uid=10001", *settings, service_image
        )
    assert done.returncode == 1
    assert f"0.0.0.0:{port} is in use" in one_line(said(done), "deja: ")


@pytest.fixture
def trainer(training_image: str, compose: Project) -> Compose:
    """Return a project of which training may be run."""
    assert training_image
    return compose()


def few_steps(name: str, steps: int) -> list[str]:
    """Return the arguments of a run on the sample that ends soon and measures at every fourth."""
    sample = ["--pairs", "/pairs/pairs.tsv", "--dev-share", "0.3", "--dev-limit", "100"]
    size = ["--batch", "8", "--steps", str(steps), "--evaluate-every", "4", "--log-every", "1"]
    return [*sample, *size, "--name", name, "--output", name]


def test_what_training_makes_is_served(trainer: Compose) -> None:
    """Trained while it serves; restarted with the result it still has every anchor."""
    with trainer.serving() as http:
        register(http)
        trained = trainer.train(*few_steps("tuned-1", 4))
        assert trained.returncode == 0, said(trained)
        assert "loss" in said(trained)
        assert http.get("/v1/info").json()["encoder"]["name"] == SHIPPED
    found = trainer.inside("ls", "-A", "/encoders", "/encoders/tuned-1").stdout.split()
    assert {"tuned-1", "manifest.json", "model.onnx"} <= set(found)
    trainer.settings["DEJA_ENCODER"] = "tuned-1"
    with trainer.serving() as http:
        assert "re-embedded 3 anchors" in trainer.log()
        assert http.get("/v1/info").json()["encoder"]["name"] == "tuned-1"
        assert stored(http) == QUESTIONS
        body = {"question": "I forgot my password, how do I reset it?"}
        answer = http.post(DUPLICATES, json=body).json()
        assert answer["encoder"] == "tuned-1"
        assert answer["matches"][0]["id"] == "password"


def test_a_killed_training_goes_on(trainer: Compose) -> None:
    """The same command with --resume takes up the last checkpoint and makes the artifact."""
    arguments = few_steps("tuned-2", 12)
    trainer("run", "--detach", "--name", trainer.name, "train", *arguments)
    deadline = time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline, docker("logs", trainer.name)
        done = docker_exec(trainer.name, "ls", "-A", "/runs/tuned-2/checkpoints").split()
        if "checkpoint-4" in done:
            break
        time.sleep(0.3)
    docker("rm", "--force", trainer.name)
    refused = trainer.train(*arguments)
    assert refused.returncode == 1
    assert "--resume" in one_line(said(refused), "error: ")
    resumed = trainer.train(*arguments, "--resume")
    assert resumed.returncode == 0, said(resumed)
    kept = trainer(
        "run", "--rm", "--no-TTY", "--entrypoint", "cat", "train", "/runs/tuned-2/log.jsonl"
    ).stdout.splitlines()
    steps = [entry["step"] for entry in map(json.loads, kept) if "loss" in entry]
    assert steps == list(range(1, 13))
    trainer.settings["DEJA_ENCODER"] = "tuned-2"
    with trainer.serving() as http:
        assert http.get("/v1/info").json()["encoder"]["name"] == "tuned-2"


def docker_exec(container: str, *command: str) -> str:
    """Return what a command in a container printed, nothing where it failed."""
    try:
        return docker("exec", container, *command)
    except AssertionError:
        return ""


def test_training_may_do_next_to_nothing(trainer: Compose) -> None:
    """No network, no capabilities, and it writes into its two volumes alone."""
    command = ("run", "--rm", "--no-TTY", "--entrypoint", "sh", "train", "-c")
    tries = "for path in /file /pairs/file /opt/deja/file; do touch $path; done; id -u"
    found = said(trainer(*command, tries))
    assert found.count("Read-only file system") == 3
    assert "10001" in found.split()
    assert said(trainer(*command, "ls /sys/class/net")).split() == ["lo"]
    assert "CapEff:\t0000000000000000" in said(trainer(*command, "cat /proc/self/status"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pairs", "/pairs/nowhere.tsv", "--output", "a"], "/pairs/nowhere.tsv"),
        (["--config", "/pairs/nowhere.toml", "--output", "a"], "/pairs/nowhere.toml"),
    ],
)
def test_a_missing_file_ends_training_with_one_line(
    trainer: Compose, arguments: list[str], words: str
) -> None:
    """The line names the file; nothing is left in the volume of runs."""
    done = trainer.train(*arguments)
    assert done.returncode == 1
    assert words in one_line(said(done), "error: ")
    left = trainer("run", "--rm", "--no-TTY", "--entrypoint", "ls", "train", "-A", "/runs")
    assert left.stdout == ""


def test_a_missing_folder_of_pairs_is_said(trainer: Compose) -> None:
    """Docker names it and makes none in its place."""
    folder = trainer.folder / "nowhere"
    trainer.settings["DEJA_PAIRS"] = str(folder)
    done = trainer.train("--pairs", "/pairs/a.tsv", "--output", "a")
    assert done.returncode != 0
    assert str(folder) in said(done)
    assert not folder.exists()


def test_an_unwritable_volume_of_runs_ends_training_with_one_line(
    trainer: Compose, training_image: str
) -> None:
    """Before the first step."""
    give_to_root(trainer, "runs", training_image)
    done = trainer.train(*few_steps("a", 4))
    assert done.returncode == 1
    assert "Permission denied" in one_line(said(done), "error: ")
    assert "loss" not in said(done)
