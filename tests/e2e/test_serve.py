from __future__ import annotations

import socket
import time
from pathlib import Path

import openai
import pytest

from tests.e2e.conftest import Start


def test_it_greets_with_its_address_and_a_request_that_works(start: Start) -> None:
    """The log of a start holds a line to try."""
    process = start().ready()
    assert f"Deja on {process.url}" in process.log
    assert f"curl -s {process.url}/v1/collections/default/duplicates" in process.log


def test_a_later_start_is_ready_within_two_seconds(start: Start) -> None:
    """Loading encoder, database and index included; the best of five, for a busy machine's sake."""
    start().ready().stop()
    times: list[float] = []
    while len(times) < 5 and min(times, default=9.0) >= 2:
        began = time.monotonic()
        process = start().ready()
        times.append(time.monotonic() - began)
        process.stop()
    assert min(times) < 2


def refusal(start: Start, data_dir: Path | None = None, **settings: str) -> str:
    """Return the one line that a start which must fail prints."""
    process = start(data_dir, **settings)
    assert process.exited() == 1
    (line,) = process.log.splitlines()
    assert line.startswith("deja: ")
    return line


def test_a_busy_port_is_one_clear_line(start: Start) -> None:
    """It names the address and the setting."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refusal(start, DEJA_PORT=str(port))
    assert f"127.0.0.1:{port} is in use" in line
    assert "DEJA_PORT" in line


def test_a_second_process_on_the_same_folder_is_one_clear_line(start: Start) -> None:
    """It names the folder and the process that has it."""
    first = start().ready()
    line = refusal(start)
    assert "in use by another deja process" in line
    assert f"process {first.process.pid}" in line
    assert "DEJA_DATA_DIR" in line


def test_an_unwritable_folder_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    """Here one that lies below a plain file, which not even root can write."""
    (tmp_path / "file").write_text("")
    line = refusal(start, tmp_path / "file" / "data")
    assert f"{tmp_path}/file/data: the data folder cannot be written" in line


def test_an_address_off_loopback_needs_a_key_or_a_word(start: Start, tmp_path: Path) -> None:
    """Closed by default; `DEJA_AUTH=off` opens it by name, a key closes it properly."""
    line = refusal(start, DEJA_HOST="0.0.0.0")  # noqa: S104 - that is the point
    assert "DEJA_ADMIN_KEY" in line
    assert "DEJA_AUTH=off" in line
    opened = start(DEJA_HOST="0.0.0.0", DEJA_AUTH="off").ready()  # noqa: S104
    assert opened.http.get("/v1/info").status_code == 200
    opened.stop()
    closed = start(tmp_path / "other", DEJA_HOST="0.0.0.0", DEJA_ADMIN_KEY="k").ready()  # noqa: S104
    assert closed.http.get("/v1/info").status_code == 401
    key = {"Authorization": "Bearer k"}
    assert closed.http.get("/v1/info", headers=key).status_code == 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"DEJA_PORT": "tcp://10.0.0.1:80"}, "DEJA_PORT=tcp://10.0.0.1:80: "),
        ({"DEJA_PORT": "70000"}, "DEJA_PORT=70000: "),
        ({"DEJA_THREADS": "0"}, "DEJA_THREADS=0: "),
        ({"DEJA_ENCODER": "nobody"}, "known names: all-minilm-l6-v2, deja-en-1"),
        ({"DEJA_ADMIN_KEY_FILE": "/nowhere"}, "DEJA_ADMIN_KEY_FILE=/nowhere: cannot be read"),
        ({"DEJA_AUTH": "on"}, "DEJA_AUTH=on needs DEJA_ADMIN_KEY"),
        ({"DEJA_HOST": "no.such.host.invalid", "DEJA_AUTH": "off"}, "not an address of this"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(
    start: Start, settings: dict[str, str], words: str
) -> None:
    """It names the variable, what it was, and what it may be."""
    assert words in refusal(start, None, **settings)


@pytest.mark.parametrize("page", [0, 7])
def test_a_damaged_database_refuses_to_start(start: Start, tmp_path: Path, page: int) -> None:
    """One line says so and what to do; the file stays as it is.

    The first page is the header, the eighth the root of the anchors.
    """
    first = start().ready()
    anchors = [{"text": f"Question {i}?"} for i in range(200)]
    first.http.post("/v1/collections/default/anchors", json={"anchors": anchors})
    first.stop()
    path = tmp_path / "data" / "deja.db"
    content = bytearray(path.read_bytes())
    content[4096 * page : 4096 * page + 2000] = b"\xaa" * 2000
    path.write_bytes(content)
    line = refusal(start)
    assert "the database is damaged" in line
    assert "backup" in line
    assert path.read_bytes() == bytes(content)


def test_a_misspelt_variable_is_warned_of(start: Start) -> None:
    """It is no setting, and no reason to refuse."""
    process = start(DEJA_PROT="1").ready()
    assert "DEJA_PROT is no setting" in process.log


def test_openais_client_library_works_unchanged(start: Start) -> None:
    """Embeddings, the list of models, and errors as its own exceptions."""
    process = start().ready()
    client = openai.OpenAI(base_url=f"{process.url}/v1", api_key="unused", max_retries=0)
    (model,) = client.models.list().data
    answer = client.embeddings.create(input=["Who are you?", "Hi"], model=model.id)
    assert [len(item.embedding) for item in answer.data] == [384, 384]
    assert answer.usage.prompt_tokens == 9
    plain = client.embeddings.create(input="Hi", model=model.id, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(answer.data[1].embedding, abs=1e-6)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(input="Hi", model="another")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(input="", model=model.id)
    client.close()
