"""The client's calls about feedback, and the command that exports it."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import Seams, cli
from app.client import DejaClient, NotFound

GIVEN = {"id": "f", "verdict": "distinct", "status": "created"}
PAIRS = '{"text1":"x\u2028y","text2":"z","label":1}\n{"text1":"é","text2":"u","label":0}\n'.encode()


def client_of(
    handler: Callable[[httpx.Request], httpx.Response],
) -> tuple[DejaClient, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return handler(request)

    transport = httpx.MockTransport(answer)
    return DejaClient("http://deja.test", transport=transport, sleep=lambda _: None), seen


def test_a_verdict_is_sent_and_sent_again_if_the_connection_breaks() -> None:
    """The same verdict twice changes nothing, so a lost answer is asked for again."""
    answers = iter([httpx.ReadError("lost"), None])

    def handler(_: httpx.Request) -> httpx.Response:
        if error := next(answers):
            raise error
        return httpx.Response(201, json=GIVEN)

    client, seen = client_of(handler)
    given = client.give_feedback("How?", "faq-1", "distinct", collection="faq")
    assert dict(given) == GIVEN
    assert [str(request.url) for request in seen] == [
        "http://deja.test/v1/collections/faq/feedback"
    ] * 2
    assert json.loads(seen[0].content) == {
        "question": "How?",
        "anchor_id": "faq-1",
        "verdict": "distinct",
    }


def test_feedback_is_read_page_by_page_and_withdrawn_by_its_id() -> None:
    """The cursor of a page leads to the next one."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.url.path.endswith("/f"):
            return httpx.Response(200, json=GIVEN)
        last = request.url.params.get("cursor") == "c"
        page = {"feedback": [{"id": "b" if last else "a"}], "next_cursor": None if last else "c"}
        return httpx.Response(200, json=page)

    client, seen = client_of(handler)
    assert [one["id"] for one in client.feedback("faq")] == ["a", "b"]
    assert client.get_feedback("f")["verdict"] == "distinct"
    client.withdraw_feedback("f", collection="faq")
    assert f"{seen[-1].method} {seen[-1].url.path}" == "DELETE /v1/collections/faq/feedback/f"


def test_an_unknown_anchor_is_not_found() -> None:
    """As for anchors."""
    client, _ = client_of(lambda _: httpx.Response(404, json={"title": "Anchor not found"}))
    with pytest.raises(NotFound, match="404 Anchor not found"):
        client.give_feedback("How?", "none", "duplicate")


def test_exported_feedback_comes_as_pairs_or_as_it_is() -> None:
    """Only a line feed ends a line."""
    client, seen = client_of(lambda _: httpx.Response(200, content=PAIRS))
    assert [pair["text1"] for pair in client.export_feedback("faq")] == ["x\u2028y", "é"]
    assert b"\n".join(client.export_feedback_lines("faq")) + b"\n" == PAIRS
    assert seen[-1].url.path == "/v1/collections/faq/feedback:export"


def test_the_command_exports_feedback_on_request() -> None:
    """Byte for byte, the count on stderr."""
    seams = Seams(httpx.MockTransport(lambda _: httpx.Response(200, content=PAIRS)))
    result = CliRunner().invoke(
        cli, ["export", "--feedback", "-c", "faq", "--url", "http://deja.test"], obj=seams
    )
    assert result.stdout_bytes == PAIRS
    assert result.stderr == "2 verdicts exported\n"


def test_labels_are_asked_one_by_one_or_together() -> None:
    """With what narrows them."""
    answer = {"text": "q", "label": None, "none": 1.0}

    def handler(request: httpx.Request) -> httpx.Response:
        batch = request.url.path.endswith(":batch")
        return httpx.Response(200, json={"results": [answer]} if batch else answer)

    client, seen = client_of(handler)
    assert client.label("q", collection="faq", metadata={"lang": "en"})["none"] == 1.0
    assert client.label_batch(["q"], collection="faq", limit=2)[0]["label"] is None
    assert [request.url.path for request in seen] == [
        "/v1/collections/faq/label",
        "/v1/collections/faq/label:batch",
    ]
    assert json.loads(seen[0].content) == {
        "text": "q",
        "limit": 5,
        "min_probability": 0.0,
        "filter": {"metadata": {"lang": "en"}},
    }
    assert json.loads(seen[1].content) == {"texts": ["q"], "limit": 2, "min_probability": 0.0}
