"""The Python client against a transport that answers by the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from app.client import (
    Anchor,
    Conflict,
    ConnectionFailed,
    DejaClient,
    Forbidden,
    Invalid,
    InvalidSetting,
    NotFound,
    ProblemError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)

Handler = Callable[[httpx.Request], httpx.Response]


class Recorder:
    """A client whose requests go to `handler`, with what it sent and how long it waited."""

    def __init__(self, handler: Handler, *, key: str | None = None, tries: int = 4) -> None:
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        self.client = DejaClient(
            "http://deja.test",
            key=key,
            transport=httpx.MockTransport(answer),
            tries=tries,
            sleep=self.waits.append,
        )

    @property
    def body(self) -> object:
        """Return what the last request carried."""
        return json.loads(self.requests[-1].content)

    @property
    def called(self) -> str:
        """Return the method and path of the last request."""
        request = self.requests[-1]
        return f"{request.method} {request.url.raw_path.decode()}"


def answering(*answers: httpx.Response | httpx.TransportError) -> Handler:
    """Return a handler that gives one answer after the other."""
    rest = iter(answers)

    def handler(_: httpx.Request) -> httpx.Response:
        answer = next(rest)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    return handler


def ok(content: object) -> httpx.Response:
    return httpx.Response(200, json=content)


def problem(status: int, **fields: object) -> httpx.Response:
    return httpx.Response(
        status,
        json={"type": "about:blank", "status": status, **fields},
        headers={"Content-Type": "application/problem+json", "X-Request-ID": "req-1"},
    )


ANSWER = {
    "question": "How old are you?",
    "verdict": "duplicate",
    "label": "age",
    "matches": [],
    "encoder": "deja-en-1",
    "truncated": False,
}
CREATED = {"id": "a", "status": "created", "duplicate_of": None, "truncated": False}


def test_a_lookup_sends_the_question_and_returns_the_answer() -> None:
    """A lookup without options asks the default collection for ten matches."""
    service = Recorder(answering(ok(ANSWER)))
    assert service.client.duplicates("How old are you?") == ANSWER
    assert service.called == "POST /v1/collections/default/duplicates"
    assert service.body == {"question": "How old are you?", "limit": 10}


def test_a_threshold_of_zero_is_sent_and_none_is_not() -> None:
    """Zero is a real threshold; label and metadata go into the filter."""
    service = Recorder(answering(ok(ANSWER)))
    service.client.duplicates(
        "q", collection="faq", limit=3, min_similarity=0.0, label="age", metadata={"lang": "en"}
    )
    assert service.called == "POST /v1/collections/faq/duplicates"
    assert service.body == {
        "question": "q",
        "limit": 3,
        "min_similarity": 0.0,
        "filter": {"label": "age", "metadata": {"lang": "en"}},
    }


def test_a_batch_lookup_returns_its_results_in_order() -> None:
    """The questions go in one request and the results come as a list."""
    service = Recorder(answering(ok({"results": [ANSWER, {**ANSWER, "question": "b"}]})))
    results = service.client.duplicates_batch(["How old are you?", "b"], limit=1)
    assert [result["question"] for result in results] == ["How old are you?", "b"]
    assert service.called == "POST /v1/collections/default/duplicates:batch"
    assert service.body == {"questions": ["How old are you?", "b"], "limit": 1}


def test_registering_sends_the_anchors_and_the_idempotency_key() -> None:
    """The key goes into its header, the anchors and the policy into the body."""
    service = Recorder(answering(httpx.Response(201, json={"results": [CREATED]})))
    results = service.client.register(
        [{"text": "What is your age?", "label": "age"}],
        collection="faq",
        if_duplicate="skip",
        idempotency_key="k-1",
    )
    assert results == [CREATED]
    assert service.called == "POST /v1/collections/faq/anchors"
    assert service.body == {
        "anchors": [{"text": "What is your age?", "label": "age"}],
        "if_duplicate": "skip",
    }
    assert service.requests[0].headers["Idempotency-Key"] == "k-1"


def test_fewer_results_than_anchors_are_not_taken_for_success() -> None:
    """An answer that leaves an anchor out is an error, not a shorter list."""
    service = Recorder(answering(ok({"results": []})))
    with pytest.raises(UnexpectedAnswer, match="0 results for 1 anchors"):
        service.client.register([{"text": "a"}])


def test_anchors_are_put_read_and_deleted_by_id() -> None:
    """An id with a colon reaches the service as one path segment."""
    anchor: Anchor = {"id": "faq:1", "text": "t", "label": None, "metadata": {}}
    service = Recorder(answering(ok(anchor), ok(anchor), httpx.Response(204)))
    assert service.client.put_anchor("faq:1", "t", metadata={"url": "u"}) == anchor
    assert service.called == "PUT /v1/collections/default/anchors/faq%3A1"
    assert service.body == {"text": "t", "label": None, "metadata": {"url": "u"}}
    assert service.client.get_anchor("faq:1", collection="c") == anchor
    assert service.called == "GET /v1/collections/c/anchors/faq%3A1"
    service.client.delete_anchor("faq:1")
    assert service.called == "DELETE /v1/collections/default/anchors/faq%3A1"


def test_listing_anchors_follows_the_cursor_to_the_last_page() -> None:
    """Pages are asked for one after the other, the label with each."""
    service = Recorder(
        answering(
            ok({"anchors": [{"id": "a"}, {"id": "b"}], "next_cursor": "Yg"}),
            ok({"anchors": [{"id": "c"}], "next_cursor": None}),
        )
    )
    assert [anchor["id"] for anchor in service.client.anchors("faq", label="x y")] == list("abc")
    assert [dict(request.url.params) for request in service.requests] == [
        {"limit": "1000", "label": "x y"},
        {"limit": "1000", "label": "x y", "cursor": "Yg"},
    ]


def test_an_export_is_split_at_line_feeds_alone() -> None:
    """U+2028 inside a text is no line end, and a line may come in several pieces."""
    lines = '{"id": "a", "text": "one\u2028two"}\n{"id": "b", "text": "x"}\n'.encode()
    service = Recorder(answering(httpx.Response(200, content=iter([lines[:20], lines[20:]]))))
    assert [anchor["text"] for anchor in service.client.export("faq")] == ["one\u2028two", "x"]
    assert service.called == "GET /v1/collections/faq/anchors:export"


def test_an_export_that_breaks_off_is_an_error() -> None:
    """What came before is yielded, then the failure is raised: it is never a short export."""

    def pieces() -> Iterator[bytes]:
        yield b'{"id": "a"}\n{"id'
        raise httpx.RemoteProtocolError("peer closed connection")

    service = Recorder(answering(httpx.Response(200, content=pieces())))
    export = service.client.export()
    assert next(export)["id"] == "a"
    with pytest.raises(ConnectionFailed, match="peer closed connection"):
        next(export)


def test_collections_are_put_listed_and_deleted() -> None:
    """Settings are keyword arguments and become the body."""
    service = Recorder(
        answering(
            httpx.Response(201, json={"name": "faq"}),
            ok({"collections": [{"name": "default"}, {"name": "faq"}]}),
            ok({"name": "faq", "anchors": 0}),
            httpx.Response(204),
        )
    )
    assert service.client.put_collection("faq", duplicate_at=0.9, review_at=None) == {"name": "faq"}
    assert service.called == "PUT /v1/collections/faq"
    assert service.body == {"duplicate_at": 0.9, "review_at": None}
    assert [one["name"] for one in service.client.collections()] == ["default", "faq"]
    assert service.client.get_collection("faq")["anchors"] == 0
    service.client.delete_collection("faq")
    assert service.called == "DELETE /v1/collections/faq"


def test_pairs_are_compared_in_order() -> None:
    """Each pair becomes left and right."""
    result = {"similarity": 0.5, "probability": 0.25, "verdict": "distinct", "truncated": False}
    service = Recorder(answering(ok({"results": [result]})))
    assert service.client.compare([("a", "b")]) == [result]
    assert service.body == {"pairs": [{"left": "a", "right": "b"}]}


def test_embedding_asks_for_the_model_and_keeps_the_order_of_the_texts() -> None:
    """Without a model the service's own is used; vectors come by index."""
    vectors = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    service = Recorder(answering(ok({"data": [{"id": "deja-en-1"}]}), ok({"data": vectors})))
    assert service.client.embed(["a", "b"]) == [[1.0, 0.0], [0.0, 1.0]]
    assert service.body == {
        "input": ["a", "b"],
        "model": "deja-en-1",
        "encoding_format": "float",
    }


def test_readiness_is_asked_once_and_503_means_no() -> None:
    """A service that is starting is not waited for."""
    service = Recorder(answering(problem(503, title="Not ready"), ok({"status": "ready"})))
    assert service.client.ready() is False
    assert service.client.ready() is True
    assert service.waits == []


def test_info_is_returned_as_it_comes() -> None:
    """The versions are one GET away."""
    service = Recorder(answering(ok({"version": "0.1.0"})))
    assert service.client.info() == {"version": "0.1.0"}
    assert service.called == "GET /v1/info"


def test_the_key_is_sent_as_a_bearer_token_and_only_if_there_is_one() -> None:
    """A client without a key sends no Authorization header."""
    with_key = Recorder(answering(ok({})), key="secret")
    with_key.client.info()
    assert with_key.requests[0].headers["Authorization"] == "Bearer secret"
    without = Recorder(answering(ok({})))
    without.client.info()
    assert "Authorization" not in without.requests[0].headers


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://host", "http://", "http://a:b", ""])
def test_an_address_that_is_none_is_refused_before_any_request(address: str) -> None:
    """The message shows what an address looks like or what is wrong."""
    with pytest.raises(InvalidSetting, match="not an address"):
        DejaClient(address)


@pytest.mark.parametrize("key", ["with space", "new\nline", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """The key itself is not repeated in the message."""
    with pytest.raises(InvalidSetting) as caught:
        DejaClient(key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (422, Invalid),
        (500, ProblemError),
    ],
)
def test_each_refusal_is_its_own_error(status: int, kind: type[ProblemError]) -> None:
    """A refusal is raised at once, as the class of its status."""
    service = Recorder(answering(problem(status, title="No", detail="because")))
    with pytest.raises(ProblemError) as caught:
        service.client.info()
    assert type(caught.value) is kind
    assert str(caught.value) == f"{status} No: because [request req-1]"
    assert (caught.value.status, caught.value.title) == (status, "No")
    assert (caught.value.detail, caught.value.request_id) == ("because", "req-1")
    assert len(service.requests) == 1


def test_wrong_fields_are_in_the_error_and_in_its_one_line() -> None:
    """Fields keep their path; a long list is cut in the message alone."""
    errors = [{"loc": ["body", "anchors", i, "text"], "msg": "blank"} for i in range(5)]
    service = Recorder(answering(problem(422, title="Invalid", detail="two\nlines", errors=errors)))
    with pytest.raises(Invalid) as caught:
        service.client.info()
    assert caught.value.errors[4].loc == ("body", "anchors", 4, "text")
    assert str(caught.value) == (
        "422 Invalid: two lines (body.anchors.0.text: blank; body.anchors.1.text: blank; "
        "body.anchors.2.text: blank; and 2 more) [request req-1]"
    )


def test_the_embeddings_route_refuses_in_openai_shape() -> None:
    """Its message becomes the detail."""
    refusal = httpx.Response(400, json={"error": {"message": "model gpt is not here"}})
    with pytest.raises(ProblemError, match=r"^400 Bad Request: model gpt is not here$"):
        Recorder(answering(refusal)).client.embed(["a"], model="gpt")


def test_a_refusal_that_is_no_problem_document_still_has_its_status() -> None:
    """A proxy's HTML page becomes one line."""
    page = httpx.Response(500, text="<html>\n<h1>oops</h1></html>")
    with pytest.raises(ProblemError, match=r"^500 Internal Server Error$"):
        Recorder(answering(page)).client.info()


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), ok([]), ok({"x": 1})])
def test_an_answer_of_another_service_is_said_to_be_one(answer: httpx.Response) -> None:
    """Neither HTML nor JSON of another shape is taken for an answer."""
    with pytest.raises(UnexpectedAnswer, match=r"^http://deja\.test did not answer like Deja: "):
        Recorder(answering(answer)).client.duplicates("q")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_waited_for_as_long_as_it_asks(status: int) -> None:
    """Retry-After is honoured, also for a registration without a key: nothing was stored."""
    busy = httpx.Response(status, headers={"Retry-After": "7"})
    service = Recorder(answering(busy, ok({"results": [CREATED]})))
    assert service.client.register([{"text": "a"}]) == [CREATED]
    assert service.waits == [7.0]


def test_retry_after_may_be_a_date() -> None:
    """The wait lasts until that moment."""
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    busy = httpx.Response(503, headers={"Retry-After": moment})
    service = Recorder(answering(busy, ok({})))
    service.client.info()
    assert 28.0 < service.waits[0] <= 30.0


def test_a_busy_service_is_given_up_after_the_last_try() -> None:
    """Without Retry-After the waits double; the last refusal is raised."""
    service = Recorder(answering(*[problem(503, title="Overloaded")] * 4))
    with pytest.raises(Unavailable, match="503 Overloaded"):
        service.client.info()
    assert service.waits == [0.25, 0.5, 1.0]


def test_a_wait_of_more_than_a_minute_is_not_taken() -> None:
    """The caller learns how long the service asked to wait."""
    service = Recorder(answering(httpx.Response(429, headers={"Retry-After": "3600"})))
    with pytest.raises(Unavailable) as caught:
        service.client.info()
    assert caught.value.retry_after == 3600.0
    assert service.waits == []


def test_a_broken_connection_is_tried_again_where_that_is_safe() -> None:
    """Reads, replacements, deletions and lookups are; the waits double."""
    reset = httpx.ReadError("connection reset")
    service = Recorder(answering(reset, reset, ok(ANSWER)))
    assert service.client.duplicates("q") == ANSWER
    assert service.waits == [0.25, 0.5]


def test_a_broken_registration_is_tried_again_only_if_nothing_is_stored_twice() -> None:
    """A key or ids make it safe; without either the failure is raised at once."""
    reset = httpx.ReadError("connection reset")
    with_key = Recorder(answering(reset, ok({"results": [CREATED]})))
    assert with_key.client.register([{"text": "a"}], idempotency_key="k") == [CREATED]
    with_ids = Recorder(answering(reset, ok({"results": [CREATED]})))
    assert with_ids.client.register([{"text": "a", "id": "a"}]) == [CREATED]
    neither = Recorder(answering(reset))
    with pytest.raises(ConnectionFailed):
        neither.client.register([{"text": "a", "id": "a"}, {"text": "b"}])
    assert neither.waits == []


def test_a_request_that_never_left_is_always_tried_again() -> None:
    """A refused connection stored nothing."""
    refused = httpx.ConnectError("connection refused")
    service = Recorder(answering(refused, ok({"results": [CREATED]})))
    assert service.client.register([{"text": "a"}]) == [CREATED]


def test_a_service_that_is_not_there_is_named_with_the_way_to_start_it() -> None:
    """The message is one line with the address and the command."""
    service = Recorder(
        answering(*[httpx.ConnectError("[Errno 111] Connection refused")] * 2), tries=2
    )
    with pytest.raises(ConnectionFailed) as caught:
        service.client.info()
    assert str(caught.value) == (
        "cannot reach Deja at http://deja.test ([Errno 111] Connection refused); "
        "start it with `deja serve`, or give the address of a running one"
    )


def test_a_gateway_failure_is_tried_again_where_that_is_safe() -> None:
    """A proxy's 502 may hide a request that was carried out."""
    safe = Recorder(answering(httpx.Response(502), ok({})))
    assert safe.client.info() == {}
    unsafe = Recorder(answering(httpx.Response(502)))
    with pytest.raises(ProblemError, match="502"):
        unsafe.client.register([{"text": "a"}])


def test_the_environment_does_not_change_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither DEJA_URL nor DEJA_KEY is read by the module."""
    monkeypatch.setenv("DEJA_URL", "http://elsewhere")
    monkeypatch.setenv("DEJA_KEY", "secret")
    with DejaClient(transport=httpx.MockTransport(lambda _: ok({}))) as client:
        assert client.address == "http://127.0.0.1:8000"


def test_explanations_come_when_asked_for() -> None:
    """`explain` is in the body of lookups, batches and comparisons only where it is set."""
    service = Recorder(answering(ok({"matches": []}), ok({"results": []}), ok({"results": []})))
    service.client.duplicates("a", explain=True)
    assert service.body == {"question": "a", "limit": 10, "explain": True}
    service.client.duplicates_batch(["a"], explain=True)
    assert service.body == {"questions": ["a"], "limit": 10, "explain": True}
    service.client.compare([("a", "b")], explain=True)
    assert service.body == {"pairs": [{"left": "a", "right": "b"}], "explain": True}
