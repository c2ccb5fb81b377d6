from __future__ import annotations

import base64
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from app import DEFAULT_ENCODER
from app.openapi import schema_text
from tests.conftest import CollectionClient, Serve

ROOT = Path(__file__).parents[2]


def test_the_committed_openapi_document_is_the_one_served(shared_service: httpx.Client) -> None:
    """`make openapi` writes it again after a change that was meant."""
    committed = (ROOT / "docs/openapi.json").read_text(encoding="utf-8")
    assert json.loads(committed) == shared_service.get("/openapi.json").json()
    assert committed == schema_text()


def test_schemas_have_names_that_a_generated_client_can_wear() -> None:
    """Two classes of one name would be told apart by their modules: `app__api__answers__…`."""
    names = json.loads(schema_text())["components"]["schemas"]
    assert "CorrectionOut" in names
    assert not [name for name in names if "__" in name]


def test_every_response_carries_a_request_id(shared_service: httpx.Client) -> None:
    """The client's own where it sent one, and on errors too."""
    assert len(shared_service.get("/livez").headers["x-request-id"]) == 32
    given = shared_service.get("/nothing", headers={"X-Request-ID": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    unsafe = shared_service.get("/livez", headers={"X-Request-ID": "a b"})
    assert unsafe.headers["x-request-id"] != "a b"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "kind"),
    [
        ("GET", "/nothing", None, 404, "not-found"),
        ("GET", "/v1/collections/", None, 404, "not-found"),
        ("PATCH", "/v1/collections", None, 405, "method-not-allowed"),
        ("POST", "/v1/collections/default/duplicates", b"{", 422, "invalid-request"),
        ("POST", "/v1/collections/default/duplicates", b"[" * 100_000, 400, "malformed-request"),
        ("POST", "/v1/collections/default/duplicates", b"\xff\xfe", 422, "invalid-request"),
        ("POST", "/v1/collections/UPPER/duplicates", b'{"question": "x"}', 422, "invalid-request"),
        ("GET", "/v1/collections/default/anchors/none", None, 404, "anchor-not-found"),
        ("DELETE", "/v1/collections/default", None, 409, "collection-protected"),
    ],
)
def test_every_error_is_a_problem(  # noqa: PLR0917 - a column each
    shared_service: httpx.Client,
    method: str,
    path: str,
    content: bytes | None,
    status: int,
    kind: str,
) -> None:
    """RFC 9457, with a type that a program can tell apart."""
    response = shared_service.request(method, path, content=content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:deja:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]


def test_a_body_that_does_not_say_it_is_json_is_refused(shared_service: httpx.Client) -> None:
    """A web page of another origin can send text, so it must not be taken for JSON."""
    url = "/v1/collections/default/duplicates"
    headers = {"Content-Type": "text/plain"}
    response = shared_service.post(url, content=b'{"question": "x"}', headers=headers)
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["detail"]


def test_errors_never_repeat_what_was_sent(shared_service: httpx.Client) -> None:
    """Not even text that is no valid Unicode."""
    url = "/v1/collections/default/duplicates"
    response = shared_service.post(url, content=b'{"question": "\\ud800 secret"}')
    assert response.status_code == 422
    assert "secret" not in response.text


def test_a_body_over_the_limit_is_refused(serve: Serve, tmp_path: Path) -> None:
    """413, announced by its length or not."""
    with serve(tmp_path, max_body_mib=1) as client:
        url = "/v1/collections/default/duplicates"
        announced = client.post(url, content=b" " * (2**20 + 1))
        assert announced.status_code == 413
        assert announced.json()["type"] == "urn:deja:problem:body-too-large"


def test_a_key_is_asked_for_on_every_route_but_the_probes(serve: Serve, tmp_path: Path) -> None:
    """401 without it or with another; it may stand in a file."""
    key_file = tmp_path / "key"
    key_file.write_text("s3cret\n")
    with serve(tmp_path / "data", host="0.0.0.0", admin_key_file=key_file) as client:  # noqa: S104
        for path in ("/v1/info", "/v1/collections", "/openapi.json", "/docs", "/nothing"):
            response = client.get(path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["type"] == "urn:deja:problem:unauthorized"
        assert client.get("/v1/info", headers={"Authorization": "Bearer other"}).status_code == 401
        assert client.get("/v1/info", headers={"Authorization": "Basic s3cret"}).status_code == 401
        assert client.get("/v1/info", headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 200
        openai_error = client.post("/v1/embeddings", json={"input": "a", "model": "x"})
        assert openai_error.status_code == 401
        assert openai_error.json()["error"]["type"] == "invalid_request_error"


def test_info_names_encoder_calibration_and_limits(shared_service: httpx.Client) -> None:
    """What the answers depend on can be read off a running service."""
    info = shared_service.get("/v1/info").json()
    assert info["encoder"]["name"] == DEFAULT_ENCODER
    assert info["encoder"]["dimension"] == 384
    assert info["limits"]["anchors"] == 1000
    cut_offs = info["calibration"]["cut_offs"]
    assert cut_offs["duplicate_at"] > cut_offs["review_at"] > 0


def test_collections_are_created_listed_and_deleted(shared_service: httpx.Client) -> None:
    """Settings show the cut-offs they lead to; counts follow the anchors."""
    url = "/v1/collections/life-cycle"
    created = shared_service.put(url, json={"duplicate_precision": 0.9})
    assert created.status_code == 201
    assert shared_service.put(url, json={"duplicate_precision": 0.9}).status_code == 200
    default = shared_service.get("/v1/collections/default").json()
    assert created.json()["cut_offs"]["duplicate_at"] > default["cut_offs"]["duplicate_at"]
    faq = CollectionClient(shared_service, "life-cycle")
    faq.register({"text": "a", "label": "x"}, {"text": "b", "label": "x"}, {"text": "c"})
    shown = shared_service.get(url).json()
    assert (shown["anchors"], shown["labels"]) == (3, 1)
    listed = shared_service.get("/v1/collections").json()["collections"]
    assert [found for found in listed if found["name"] == "life-cycle"] == [shown]
    assert shared_service.delete(url).status_code == 204
    assert shared_service.get(url).status_code == 404
    assert shared_service.delete(url).status_code == 404
    assert shared_service.put(url).status_code == 201
    assert faq.ask("a")["matches"] == []


def test_contradicting_cut_offs_are_refused(shared_service: httpx.Client) -> None:
    """`duplicate_at` below `review_at` makes no sense."""
    body = {"duplicate_at": 0.2, "review_at": 0.8}
    response = shared_service.put("/v1/collections/contradiction", json=body)
    assert response.status_code == 422
    assert shared_service.get("/v1/collections/contradiction").status_code == 404


def test_compare_judges_pairs(shared_service: httpx.Client) -> None:
    """Equal fingerprints are duplicates with probability 1; order of a pair does not matter."""
    pairs = [("How old are you?", "HOW OLD ARE YOU"), ("How do I reset my PIN?", "Rust or Go?"),
             ("Rust or Go?", "How do I reset my PIN?")]  # fmt: skip
    body = {"pairs": [{"left": left, "right": right} for left, right in pairs * 5]}
    results = shared_service.post("/v1/compare", json=body).json()["results"]
    assert len(results) == 15
    same, one, other = results[:3]
    assert (same["probability"], same["verdict"]) == (1.0, "duplicate")
    assert one == other
    assert one["verdict"] == "distinct"
    assert one["similarity"] < 0.3


def test_embeddings_come_as_numbers_or_as_base64(shared_service: httpx.Client) -> None:
    """Both formats hold the same unit vectors."""
    answers = []
    for encoding in ("base64", "float"):
        body = {"input": ["How old are you?", "Hi"], "model": DEFAULT_ENCODER}
        answers.append(
            shared_service.post("/v1/embeddings", json={**body, "encoding_format": encoding}).json()
        )
    packed, plain = answers
    assert packed["usage"] == plain["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    for place in range(2):
        raw = base64.b64decode(packed["data"][place]["embedding"])
        vector = np.frombuffer(raw, "<f4")
        assert np.allclose(vector, plain["data"][place]["embedding"], atol=1e-7)
        assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_another_model_is_refused_in_openais_words(shared_service: httpx.Client) -> None:
    """Client libraries turn this shape into their own errors."""
    response = shared_service.post("/v1/embeddings", json={"input": "a", "model": "gpt"})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("model_not_found", "invalid_request_error")
    empty = shared_service.post("/v1/embeddings", json={"input": [], "model": "gpt"})
    assert empty.status_code == 400
    assert empty.json()["error"]["param"] == "input"


def test_a_full_queue_answers_503_with_retry_after(serve: Serve, tmp_path: Path) -> None:
    """What is accepted is answered; what is too much is told to come back, and leaves no trace.

    Alone, even a request larger than the queue is let in.
    """
    with serve(tmp_path, queue_size=8, threads=1) as client, ThreadPoolExecutor(8) as threads:
        faq = CollectionClient(client, "default")
        large = {"anchors": [{"text": f"text {i} {'word ' * 200}"} for i in range(200)]}

        def until_let_in() -> httpx.Response:
            # A small one may be there first; then it is the large one that has to come back.
            while (response := faq.post("anchors", large)).status_code == 503:
                pass
            return response

        first = threads.submit(until_let_in)
        refused, let_in = None, 0
        while not first.done() and refused is None:
            response = faq.post("anchors", {"anchors": [{"text": f"n{i}"} for i in range(9)]})
            let_in += response.status_code == 201
            refused = response if response.status_code == 503 else None
        assert first.result().status_code == 201
        assert refused is not None
        assert refused.json()["type"] == "urn:deja:problem:overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get(faq.url).json()["anchors"] == 200 + 9 * let_in


def test_a_restart_finds_everything(serve: Serve, tmp_path: Path) -> None:
    """Anchors, collections and answers are the same after a stop."""
    with serve(tmp_path) as client:
        faq = CollectionClient(client, "default")
        faq.register({"id": "a", "text": "Who are you?"}, {"id": "b", "text": "Rust or Go?"})
        client.delete(f"{faq.url}/anchors/b")
        before = faq.ask("Who is it?")
    with serve(tmp_path) as client:
        assert CollectionClient(client, "default").ask("Who is it?") == before


def test_a_lost_or_damaged_index_is_rebuilt_from_the_database(serve: Serve, tmp_path: Path) -> None:
    """Every file of it in turn is cut short; answers stay the same."""
    with serve(tmp_path) as client:
        faq = CollectionClient(client, "default")
        faq.register(*[f"Question number {i}?" for i in range(50)])
        before = faq.ask("Question number 7?")
    files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    assert len(files) >= 2
    for name in [path.name for path in files]:
        (path,) = (tmp_path / "index").rglob(name)
        path.write_bytes(path.read_bytes()[:-7])
        with serve(tmp_path) as client:
            assert CollectionClient(client, "default").ask("Question number 7?") == before


def test_an_index_that_disagrees_with_the_database_is_rebuilt(serve: Serve, tmp_path: Path) -> None:
    """As after a backup of the database was put back without its index."""
    with serve(tmp_path) as client:
        CollectionClient(client, "default").register("One?", "Two?")
    with sqlite3.connect(tmp_path / "deja.db") as database:
        database.execute("DELETE FROM anchors WHERE text = 'Two?'")
        database.execute("DELETE FROM vectors WHERE seq NOT IN (SELECT seq FROM anchors)")
    database.close()
    with serve(tmp_path) as client:
        matches = CollectionClient(client, "default").ask("Two?")["matches"]
        assert [match["text"] for match in matches] == ["One?"]
