"""`deja` on the command line: ask, export, serve, help and errors."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app import __version__
from app.cli import Seams, cli
from app.cli_output import replacing
from app.client import DejaClient
from app.client_errors import InvalidSetting

MATCH = {
    "id": "faq-1",
    "text": "What is [bold]your[/bold] age?\x1b[31m",
    "label": "age",
    "metadata": {},
    "similarity": 0.8704,
    "probability": 0.9312,
    "verdict": "duplicate",
}
ANSWER = {
    "question": "How old are you?",
    "verdict": "duplicate",
    "label": "age",
    "matches": [MATCH],
    "encoder": "deja-en-1",
    "truncated": False,
}


def run(
    handler: Callable[[httpx.Request], httpx.Response], *arguments: str, **environment: str
) -> Result:
    return CliRunner().invoke(
        cli,
        arguments,
        env={"COLUMNS": "120", "DEJA_URL": "http://deja.test", "DEJA_KEY": "", **environment},
        obj=Seams(httpx.MockTransport(handler), lambda _: None),
    )


def answering(content: object, seen: list[httpx.Request] | None = None) -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(200, json=content)

    return handler


def test_the_answer_is_shown_with_figures_and_texts_as_they_are() -> None:
    """Markup in a text is not interpreted and an escape character does not reach the terminal."""
    result = run(answering(ANSWER), "ask", "How old are you?")
    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "duplicate label age",
        "probability similarity verdict text",
        "0.931 0.870 duplicate What is [bold]your[/bold] age?\N{REPLACEMENT CHARACTER}[31m",
        "id faq-1, label age",
    ]


def test_asking_sends_the_options_and_the_key() -> None:
    """Address and key come from the environment, or from options before it."""
    seen: list[httpx.Request] = []
    options = ("--collection", "faq", "--limit", "3", "--label", "age")
    run(answering(ANSWER, seen), "ask", "q", *options, DEJA_KEY="from-environment")
    run(answering(ANSWER, seen), "ask", "q", "--url", "http://other", "--key", "given")
    assert str(seen[0].url) == "http://deja.test/v1/collections/faq/duplicates"
    assert json.loads(seen[0].content) == {
        "question": "q",
        "limit": 3,
        "filter": {"label": "age"},
    }
    assert seen[0].headers["Authorization"] == "Bearer from-environment"
    assert str(seen[1].url) == "http://other/v1/collections/default/duplicates"
    assert seen[1].headers["Authorization"] == "Bearer given"


def test_the_answer_is_printed_as_json_on_request() -> None:
    """Every key is there, for a program to read."""
    result = run(answering(ANSWER), "ask", "How old are you?", "--json")
    assert json.loads(result.stdout) == ANSWER


def test_a_question_without_matches_or_cut_off_says_so() -> None:
    """Nothing is left to be guessed from an empty table."""
    answer = {**ANSWER, "verdict": "distinct", "label": None, "matches": [], "truncated": True}
    assert run(answering(answer), "ask", "q").stdout == (
        "distinct\n"
        "Only the beginning was compared: it is longer than the encoder reads.\n"
        "No anchor matches.\n"
    )


def test_a_service_that_is_not_there_is_one_line_on_stderr() -> None:
    """The line names the address and how to start a service; the status is 1."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    result = run(refuse, "ask", "q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "deja: cannot reach Deja at http://deja.test (connection refused); "
        "start it with `deja serve`, or give the address of a running one\n"
    )


def test_a_missing_key_is_explained() -> None:
    """The line says how to give one."""
    result = run(
        lambda _: httpx.Response(401, json={"title": "Unauthorized", "detail": "no key"}),
        *("ask", "q"),
    )
    assert (result.exit_code, result.stderr) == (
        1,
        "deja: 401 Unauthorized: no key; give a key with --key or DEJA_KEY\n",
    )


LINES = '{"id":"a","text":"x\u2028y"}\n{"id":"b","text":"é"}\n'.encode()


def test_an_export_goes_to_standard_output_byte_for_byte() -> None:
    """How many anchors there are is said on stderr, out of the data's way."""
    result = run(lambda _: httpx.Response(200, content=LINES), "export", "--collection", "faq")
    assert result.stdout_bytes == LINES
    assert result.stderr == "2 anchors exported\n"


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_an_export_to_a_file_replaces_it_when_all_is_there(tmp_path: Path, name: str) -> None:
    """A name that ends in .gz is compressed; nothing is left beside the file."""
    output = tmp_path / name
    output.write_text("old")
    result = run(
        lambda _: httpx.Response(200, content=LINES), "export", "-c", "faq", "-o", str(output)
    )
    assert result.exit_code == 0
    data = output.read_bytes()
    assert (gzip.decompress(data) if name.endswith(".gz") else data) == LINES
    assert result.stderr == f"2 anchors exported to {output}\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_export_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    """Half an export never takes the place of a whole one."""

    def pieces() -> Iterator[bytes]:
        yield LINES
        raise httpx.RemoteProtocolError("peer closed connection")

    output = tmp_path / "out.jsonl"
    output.write_text("old")
    result = run(
        lambda _: httpx.Response(200, content=pieces()), "export", "-c", "faq", "-o", str(output)
    )
    assert result.exit_code == 1
    assert "peer closed connection" in result.stderr
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_export_to_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    """The system's own words name the folder."""
    output = tmp_path / "absent" / "out.jsonl"
    result = run(
        lambda _: httpx.Response(200, content=LINES), "export", "-c", "faq", "-o", str(output)
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("deja: [Errno 2] No such file or directory")
    assert result.stderr.count("\n") == 1


def test_an_export_comes_back_through_import(tmp_path: Path) -> None:
    """Label and metadata are those of the export, to the letter."""
    anchor = {"id": "a", "text": "x\u2028y", "label": "l", "metadata": {"k": [1, None]}}
    output = tmp_path / "out.jsonl.gz"
    line = json.dumps({**anchor, "truncated": False, "created_at": "t"}, ensure_ascii=False)
    run(lambda _: httpx.Response(200, content=line), "export", "-c", "faq", "-o", str(output))
    sent: list[object] = []

    def service(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            sent.extend(json.loads(request.content)["anchors"])
        result = {"id": "a", "status": "created", "duplicate_of": None, "truncated": False}
        return httpx.Response(200, json={"name": "faq", "results": [result]})

    result = run(service, "import", str(output), "-c", "faq", XDG_STATE_HOME=str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert sent == [anchor]


def test_the_version_is_one_line() -> None:
    """It is the package's own."""
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"deja {__version__}\n")


@pytest.mark.parametrize(
    ("command", "mentions"),
    [
        ([], ["serve", "import", "export", "ask", "--version"]),
        (["serve"], ["DEJA_", "DEJA_DATA_DIR"]),
        (["import"], ["DEJA_URL", "DEJA_KEY", "--metadata-columns", "--if-duplicate", "--strict"]),
        (["export"], ["DEJA_URL", "--output"]),
        (["ask"], ["DEJA_URL", "--json"]),
    ],
)
def test_help_names_every_command_and_the_environment(
    command: list[str], mentions: list[str]
) -> None:
    """A person finds out from --help alone what can be set, and where."""
    result = CliRunner().invoke(cli, [*command, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert [word for word in mentions if word not in result.stdout] == []


def test_help_loads_nothing_of_the_service() -> None:
    """The command line answers at once: what serves is imported by `deja serve` alone."""
    heavy = ("faiss", "onnxruntime", "sqlalchemy", "fastapi", "pydantic", "numpy", "tokenizers")
    code = f"import sys, app.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    """With the rights that the target had: an export may hold what not everyone shall read."""
    target, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_written_to_not_replaced(tmp_path: Path) -> None:
    """A pipe here; a device is the same."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reading.start()
    with replacing(pipe) as file:
        file.write(b"lines")
    reading.join(10)
    assert received == [b"lines"]
    assert pipe.is_fifo()


def test_an_address_that_cannot_be_one_is_a_clear_line() -> None:
    """Whatever the libraries below make of it."""
    for address in ("http://xn--.com", "http://[::1", "ftp://host"):
        with pytest.raises(InvalidSetting, match="not an address"):
            DejaClient(address)
