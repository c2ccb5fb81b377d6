"""`deja import` from the command line to a stand-in for the service, written from the contract."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import Seams, cli


class StandIn:
    """Collections in memory behind the routes that an import uses.

    before, after: are told of each registration, by its number from 1, before it is stored and
    before it is answered; what they return is answered instead, what they raise breaks off.
    """

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, dict[str, Any]]] = {"default": {}}
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.calls: list[str] = []
        self.refused_texts: dict[str, str] = {}
        self.largest_request = 1000
        self.before: Callable[[int], httpx.Response | None] = lambda _: None
        self.after: Callable[[int], httpx.Response | None] = lambda _: None
        self._remembered: dict[str, tuple[bytes, httpx.Response]] = {}
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.calls.append(f"{request.method} {request.url.path}")
        name, _, rest = request.url.path.removeprefix("/v1/collections/").partition("/")
        if request.method == "PUT":
            self.collections[name] = {}
            return httpx.Response(201, json={"name": name})
        if name not in self.collections:
            return _problem(404, "Collection not found", f"no collection named {name!r}")
        if request.method == "GET":
            return httpx.Response(200, json={"name": name})
        assert rest == "anchors"
        body = json.loads(request.content)
        with self._lock:
            self.bodies.append(body)
            number = len(self.bodies)
            self.keys.append(request.headers.get("Idempotency-Key"))
        instead = self.before(number)
        if instead is not None:
            return instead
        with self._lock:
            answer = self._register(name, body, request)
        return self.after(number) or answer

    def _register(self, name: str, body: dict[str, Any], request: httpx.Request) -> httpx.Response:
        key = request.headers.get("Idempotency-Key")
        if key in self._remembered:
            content, answer = self._remembered[key]
            assert content == request.content
            return answer
        if len(body["anchors"]) > self.largest_request:
            return httpx.Response(413)
        errors = [
            {"loc": ["body", "anchors", i, "text"], "msg": self.refused_texts[anchor["text"]]}
            for i, anchor in enumerate(body["anchors"])
            if anchor["text"] in self.refused_texts
        ]
        if errors:
            return _problem(422, "Invalid request", "see errors", errors=errors)
        results = [self._store(self.collections[name], body, anchor) for anchor in body["anchors"]]
        answer = httpx.Response(200, json={"results": results})
        if key is not None:
            self._remembered[key] = (request.content, answer)
        return answer

    @staticmethod
    def _store(
        stored: dict[str, dict[str, Any]], body: dict[str, Any], anchor: dict[str, Any]
    ) -> dict[str, Any]:
        anchor_id = anchor.get("id") or f"generated-{len(stored)}"
        old = stored.get(anchor_id)
        content = {key: value for key, value in anchor.items() if key != "id"}
        result = {"id": anchor_id, "duplicate_of": None, "truncated": "long" in anchor["text"]}
        if old == content:
            return {**result, "status": "unchanged"}
        twins = [one for one, other in stored.items() if other["text"] == anchor["text"]]
        if body["if_duplicate"] == "skip" and twins:
            return {**result, "id": anchor.get("id"), "status": "skipped"}
        stored[anchor_id] = content
        return {**result, "status": "updated" if old else "created"}

    def texts(self, collection: str = "faq") -> list[str]:
        """Return the texts stored, in the order in which they came."""
        return [anchor["text"] for anchor in self.collections[collection].values()]


def _problem(status: int, title: str, detail: str, **more: object) -> httpx.Response:
    return httpx.Response(status, json={"title": title, "detail": detail, **more})


class Shell:
    """Runs `deja import` in a folder of its own against the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = StandIn()
        self.waits: list[float] = []

    def write(self, name: str, content: str) -> Path:
        """Return a new file, compressed where its name ends in .gz."""
        path = self.folder / name
        data = content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    def run(self, file: Path | str, *options: str, stdin: str | None = None) -> Result:
        """Import a file into the collection `faq`."""
        return CliRunner().invoke(
            cli,
            ["import", str(file), "--collection", "faq", "--url", "http://deja.test", *options],
            input=stdin,
            env={"XDG_STATE_HOME": str(self.folder / "state"), "DEJA_KEY": "", "COLUMNS": "200"},
            obj=Seams(httpx.MockTransport(self.service), self.waits.append),
        )

    def states(self) -> list[Path]:
        """Return the states of imports that have not ended."""
        return list((self.folder / "state").rglob("*.json"))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def figures(result: Result) -> dict[str, int]:
    """Return the counts of the summary."""
    found = re.findall(
        r"([\d,]+) (rows read|created|updated|unchanged|skipped|bad|truncated)", result.stdout
    )
    return {name: int(count.replace(",", "")) for count, name in found}


def numbered(count: int, *, ids: bool = False) -> str:
    """Return a CSV file of `count` rows."""
    header = "id,text\n" if ids else "text\n"
    return header + "".join(f"{f'a{i},' if ids else ''}text {i}\n" for i in range(count))


def test_every_row_is_registered_and_the_summary_counts_them(shell: Shell) -> None:
    """A missing collection is created; the state is gone at the end."""
    file = shell.write("a.csv", "id,text,label\n1,one,x\n2,two long,\n")
    result = shell.run(file)
    assert result.exit_code == 0, result.stderr
    assert shell.service.calls[:2] == ["GET /v1/collections/faq", "PUT /v1/collections/faq"]
    assert shell.service.collections["faq"] == {
        "1": {"text": "one", "label": "x"},
        "2": {"text": "two long"},
    }
    assert figures(result) == {
        "rows read": 2,
        "created": 2,
        "updated": 0,
        "unchanged": 0,
        "skipped": 0,
        "bad": 0,
        "truncated": 1,
    }
    assert "longer than the encoder reads, at lines 3\n" in result.stdout
    assert shell.states() == []


def test_an_import_repeated_changes_nothing_where_rows_have_ids(shell: Shell) -> None:
    """The second time every row is unchanged, but for those that are other now."""
    assert figures(shell.run(shell.write("a.csv.gz", numbered(5, ids=True))))["created"] == 5
    file = shell.write("a.csv.gz", numbered(5, ids=True).replace("text 3", "other"))
    again = figures(shell.run(file))
    assert (again["unchanged"], again["updated"], again["created"]) == (4, 1, 0)


def test_an_import_repeated_on_purpose_is_no_retry(shell: Shell) -> None:
    """Rows without ids are registered again: the earlier import had ended."""
    file = shell.write("a.csv", numbered(3))
    assert figures(shell.run(file))["created"] == 3
    assert figures(shell.run(file))["created"] == 3
    assert len(shell.service.texts()) == 6


def test_rows_go_in_batches_of_the_size_asked_for(shell: Shell) -> None:
    """Rows without an id carry an idempotency key, rows with one need none."""
    shell.run(shell.write("a.csv", numbered(5)), "--batch", "2")
    assert sorted(len(body["anchors"]) for body in shell.service.bodies) == [1, 2, 2]
    assert None not in shell.service.keys
    assert len(set(shell.service.keys)) == 3
    shell.run(shell.write("b.csv", numbered(2, ids=True)))
    assert shell.service.keys[-1] is None


def test_duplicates_are_skipped_on_request_and_the_earlier_line_stays(shell: Shell) -> None:
    """Batches then go one after the other."""
    file = shell.write("a.csv", "id,text\n" + "".join(f"a{i},same\n" for i in range(20)))
    result = shell.run(file, "--if-duplicate", "skip", "--batch", "1")
    assert (figures(result)["created"], figures(result)["skipped"]) == (1, 19)
    assert list(shell.service.collections["faq"]) == ["a0"]


def test_of_two_rows_with_one_id_the_later_wins(shell: Shell) -> None:
    """Not even two requests in flight change their order."""
    rows = "".join(f"same,text {i}\nb{i},x\n" for i in range(30))
    result = shell.run(shell.write("a.csv", "id,text\n" + rows), "--batch", "1", "--parallel", "4")
    assert result.exit_code == 0
    assert shell.service.collections["faq"]["same"] == {"text": "text 29"}


def test_bad_lines_are_listed_counted_and_not_fatal(shell: Shell) -> None:
    """The first ten are shown with their numbers, all of them go into the error list."""
    rows = "".join(f'{{"text": "t{i}"}}\n{{"text": ""}}\n' for i in range(12))
    errors = shell.folder / "errors.tsv"
    result = shell.run(shell.write("a.jsonl", rows), "--errors", str(errors), "--batch", "5")
    assert result.exit_code == 0
    assert (figures(result)["created"], figures(result)["bad"]) == (12, 12)
    assert figures(result)["rows read"] == 24
    shown = [line for line in result.stderr.splitlines() if line.startswith("line ")]
    assert shown == [f"line {2 * i}: text is blank" for i in range(1, 11)]
    assert "further bad lines are counted, not shown; --errors FILE lists them all" in result.stderr
    assert errors.read_text() == "".join(f"{2 * i}\ttext is blank\n" for i in range(1, 13))


def test_rows_that_the_service_refuses_are_listed_and_the_rest_is_sent(shell: Shell) -> None:
    """The request is repeated without them, under another idempotency key."""
    shell.service.refused_texts = {"text 1": "not wanted", "text 3": "nor this"}
    result = shell.run(shell.write("a.csv", numbered(5)))
    assert result.exit_code == 0
    assert shell.service.texts() == ["text 0", "text 2", "text 4"]
    assert "line 3: refused by the service: text: not wanted\n" in result.stderr
    assert "line 5: refused by the service: text: nor this\n" in result.stderr
    assert (figures(result)["created"], figures(result)["bad"]) == (3, 2)
    assert len(set(shell.service.keys)) == len(shell.service.keys) == 2


def test_a_refusal_of_the_request_as_a_whole_ends_the_import(shell: Shell) -> None:
    """There is no row to leave out, so nothing is guessed."""
    shell.service.before = lambda _: _problem(422, "Invalid request", "no")
    result = shell.run(shell.write("a.csv", numbered(2)))
    assert result.exit_code == 1
    assert result.stderr.startswith("deja: 422 Invalid request: no; no row is stored")


def test_a_body_too_large_for_what_is_in_between_is_halved(shell: Shell) -> None:
    """A proxy's limit slows the import down and does not end it."""
    shell.service.largest_request = 3
    result = shell.run(shell.write("a.csv", numbered(10)))
    assert figures(result)["created"] == 10
    assert sorted(shell.service.texts()) == [f"text {i}" for i in range(10)]
    shell.service.largest_request = 0
    again = shell.run(shell.write("b.csv", numbered(2)))
    assert (again.exit_code, figures(again)["bad"]) == (0, 2)
    assert "line 2: refused by the service: too large" in again.stderr


def test_a_strict_import_sends_nothing_of_a_file_with_a_bad_line(shell: Shell) -> None:
    """The line is named and the exit status is 1."""
    file = shell.write("a.jsonl", '{"text": "x"}\n' * 500 + "{\n")
    result = shell.run(file, "--strict")
    assert result.exit_code == 1
    assert result.stderr.startswith("deja: line 501: not JSON: ")
    assert result.stderr.endswith("; nothing was sent\n")
    assert shell.service.calls == []


def test_a_strict_import_stops_where_the_service_refuses_a_row(shell: Shell) -> None:
    """What is stored by then is said."""
    shell.service.refused_texts = {"text 1": "not wanted"}
    file = shell.write("a.csv", numbered(5))
    result = shell.run(file, "--strict", "--batch", "2", "--parallel", "1")
    assert result.exit_code == 1
    assert "deja: line 3: refused by the service: text: not wanted; every row up to line 3 is" in (
        result.stderr
    )
    assert shell.service.texts() == ["text 0"]


def test_an_import_goes_on_after_the_last_acknowledged_row(shell: Shell) -> None:
    """The rest is sent, and the summary counts both runs together."""

    def away(number: int) -> None:
        if number > 2:
            raise httpx.ConnectError("connection refused")

    shell.service.before = away
    file = shell.write("a.csv", numbered(10))
    options = ("--batch", "2", "--parallel", "1")
    stopped = shell.run(file, *options)
    assert stopped.exit_code == 1
    assert stopped.stderr == (
        "deja: cannot reach Deja at http://deja.test (connection refused); start it with "
        "`deja serve`, or give the address of a running one; every row up to line 5 is stored; "
        "run the same command again to go on from there\n"
    )
    assert len(shell.states()) == 1
    shell.service.before = lambda _: None
    sent = len(shell.service.bodies)
    resumed = shell.run(file, *options)
    assert resumed.exit_code == 0
    assert "resuming after line 5\n" in resumed.stderr
    assert shell.service.bodies[sent]["anchors"] == [{"text": "text 4"}, {"text": "text 5"}]
    assert shell.service.texts() == [f"text {i}" for i in range(10)]
    assert (figures(resumed)["rows read"], figures(resumed)["created"]) == (10, 10)
    assert resumed.stdout.startswith("10 rows read, the last 6 in ")
    assert shell.states() == []


@pytest.mark.parametrize("parallel", ["1", "2", "4"])
def test_an_answer_that_was_lost_stores_nothing_twice(shell: Shell, parallel: str) -> None:
    """Broken off after any of its requests was stored, an import resumed is complete and exact."""
    file = shell.write("a.csv", numbered(20))
    options = ("--batch", "3", "--parallel", parallel)
    for number in range(1, 8):
        shell.service = StandIn()

        def lose(now: int, last: int = number) -> None:
            if now >= last:
                raise httpx.ReadError("connection reset")

        shell.service.after = lose
        assert shell.run(file, *options).exit_code == 1
        shell.service.after = lambda _: None
        resumed = shell.run(file, *options)
        assert figures(resumed)["created"] == 20
        assert sorted(shell.service.texts()) == sorted(f"text {i}" for i in range(20))


def test_a_kill_between_answer_and_state_stores_nothing_twice(shell: Shell) -> None:
    """Started again with any state of the past, an import ends the same, its error list too."""
    rows = "".join(f'{{"text": "t{i}"}}\n' + "bad\n" * (i % 3 == 0) for i in range(20))
    file = shell.write("a.jsonl", rows)
    state, errors = shell.folder / "state.json", shell.folder / "errors.tsv"
    options = ("--batch", "4", "--parallel", "2", "--state", str(state), "--errors", str(errors))
    kept = []

    def keep(number: int) -> None:
        copy = shell.folder / f"state-{number}.json"
        shutil.copy(state, copy)
        kept.append(copy)

    shell.service.after = keep
    first = figures(shell.run(file, *options))
    listed = errors.read_text()
    assert (first["created"], first["bad"], len(kept)) == (20, 7, 7)
    assert listed.count("\n") == 7
    for copy in kept:
        shell.service.after = lambda _: None
        shutil.copy(copy, state)
        assert figures(shell.run(file, *options)) == first
        assert errors.read_text() == listed
        assert not state.exists()
    assert sorted(shell.service.texts()) == sorted(f"t{i}" for i in range(20))


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(shell: Shell) -> None:
    """What is under way is finished first; the exit status is 130."""
    interrupted = threading.Event()

    def interrupt(number: int) -> None:
        if number == 3 and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    shell.service.before = interrupt
    file = shell.write("a.csv", numbered(400))
    options = ("--batch", "2", "--parallel", "2")
    result = shell.run(file, *options)
    assert result.exit_code == 130
    said = re.fullmatch(
        r"deja: stopped; every row up to line (\d+) is stored; "
        r"run the same command again to go on from there\n",
        result.stderr,
    )
    assert said is not None
    assert len(shell.service.texts()) == int(said[1]) - 1
    resumed = shell.run(file, *options)
    assert figures(resumed)["created"] == 400
    assert sorted(shell.service.texts()) == sorted(f"text {i}" for i in range(400))


def test_restart_begins_at_the_first_line(shell: Shell) -> None:
    """Nothing of the earlier, unfinished import counts any more."""

    def away(number: int) -> None:
        if number > 1:
            raise httpx.ReadError("gone")

    shell.service.before = away
    file = shell.write("a.csv", numbered(4, ids=True))
    assert shell.run(file, "--batch", "2", "--parallel", "1").exit_code == 1
    shell.service.before = lambda _: None
    result = shell.run(file, "--batch", "2", "--parallel", "1", "--restart")
    assert "resuming" not in result.stderr
    assert (figures(result)["unchanged"], figures(result)["created"]) == (2, 2)


def test_a_file_that_has_changed_is_imported_from_its_beginning(shell: Shell) -> None:
    """The line numbers of the old one mean nothing; that is said."""

    def away(number: int) -> None:
        if number > 1:
            raise httpx.ReadError("gone")

    shell.service.before = away
    file = shell.write("a.csv", numbered(4, ids=True))
    assert shell.run(file, "--batch", "2", "--parallel", "1").exit_code == 1
    shell.service.before = lambda _: None
    shell.write("a.csv", numbered(6, ids=True))
    result = shell.run(file, "--batch", "2", "--parallel", "1")
    assert "changed since an import stopped after line 3; starting at the first line" in (
        result.stderr
    )
    assert figures(result)["rows read"] == 6


def test_a_busy_service_is_waited_for(shell: Shell) -> None:
    """The import takes as long as the service asks, and loses nothing."""
    shell.service.before = lambda number: (
        httpx.Response(503, headers={"Retry-After": "2"}) if number < 4 else None
    )
    result = shell.run(shell.write("a.csv", numbered(3)))
    assert figures(result)["created"] == 3
    assert shell.waits == [2.0, 2.0, 2.0]


def test_standard_input_is_read_in_the_format_said(shell: Shell) -> None:
    """It has no name to tell the format by, and cannot be resumed."""
    errors = shell.folder / "errors.tsv"
    errors.touch()
    result = shell.run(
        "-", "--format", "tsv", "--errors", str(errors), stdin='text\tlabel\n"a\tx\n'
    )
    assert result.exit_code == 0, result.stderr
    assert shell.service.collections["faq"] == {"generated-0": {"text": '"a', "label": "x"}}
    assert shell.run("-", stdin="text\na\n").exit_code == 2
    assert shell.run("-", "--format", "csv", "--state", "s", stdin="text\na\n").exit_code == 2


def test_a_missing_text_column_ends_it_before_anything_is_sent(shell: Shell) -> None:
    """One line names the columns found; the exit status is that of a usage error."""
    file = shell.write("a.csv", "id,question\n1,x\n")
    result = shell.run(file)
    assert result.exit_code == 2
    assert result.stderr == f"deja: {file}: no column 'text'; it has 'id', 'question'\n"
    assert shell.service.calls == []
    assert figures(shell.run(file, "--text-column", "question"))["created"] == 1


def test_a_missing_collection_is_not_created_against_the_will(shell: Shell) -> None:
    """The service's own words are the error."""
    result = shell.run(shell.write("a.csv", numbered(1)), "--no-create")
    assert result.exit_code == 1
    assert result.stderr == "deja: 404 Collection not found: no collection named 'faq'\n"


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("absent.csv", (), r"absent\.csv: No such file or directory"),
        ("a.txt", (), r"a\.txt: in which format\?"),
        ("a.csv", ("--collection", "No Good"), "is not 1 to 63 of a-z"),
        ("a.csv", ("--batch", "1001"), "less than or equal to 1000"),
        ("a.csv", ("--url", "nowhere"), "not an address: 'nowhere'"),
    ],
)
def test_what_cannot_work_is_said_without_a_traceback(
    shell: Shell, name: str, options: tuple[str, ...], problem: str
) -> None:
    """Nothing is sent then."""
    shell.write("a.txt", "x")
    shell.write("a.csv", "text\nx\n")
    result = shell.run(shell.folder / name, *options)
    assert result.exit_code in (1, 2)
    assert re.search(problem, result.stderr)
    assert "Traceback" not in result.stderr
    assert shell.service.calls == []


def test_a_damaged_gzip_file_ends_with_what_is_stored_by_then(shell: Shell) -> None:
    """The rows before the damage are in, in whole batches, and the place is said."""
    file = shell.write("a.csv.gz", "".join(["text\n", *(f"{i * i}\n" for i in range(9000))]))
    file.write_bytes(file.read_bytes()[:-3000])
    result = shell.run(file, "--batch", "100")
    assert result.exit_code == 1
    said = re.search(
        r"unreadable after line (\d+) .*; every row up to line ([\d,]+) is", result.stderr
    )
    assert said is not None
    stored = int(said[2].replace(",", ""))
    assert int(said[1]) - 100 <= stored <= int(said[1])
    assert len(shell.service.texts()) == stored - 1


@pytest.mark.parametrize("option", ["--errors", "--state"])
def test_the_file_to_import_is_never_written_to(shell: Shell, option: str) -> None:
    """A slip in the options is refused before the file is lost."""
    file = shell.write("a.csv", "text\nx\n")
    result = shell.run(file, option, str(file))
    assert (result.exit_code, result.stderr) == (
        2,
        f"deja: {option}: {file} is the file to import\n",
    )
    assert file.read_text() == "text\nx\n"


def test_an_empty_table_is_imported_as_nothing(shell: Shell) -> None:
    """A header alone is no error."""
    result = shell.run(shell.write("a.csv", "text\n"))
    assert (result.exit_code, figures(result)["rows read"]) == (0, 0)
