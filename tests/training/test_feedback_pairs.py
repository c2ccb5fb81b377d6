"""From verdicts that people gave to pairs that a run trains on."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.conftest import CollectionClient
from training.config import read_config
from training.data import read_pairs
from training.prepare import prepare

VERDICTS = [
    ('How  "old" are you?\u2028', "duplicate"),
    ("Where is my parcel?", "distinct"),
    ("What's your age, 3½ or 4?", "duplicate"),
]


def exported(collection: CollectionClient, path: Path) -> Path:
    collection.register({"id": "age", "text": "What is your age?"})
    for question, verdict in VERDICTS:
        body = {"question": question, "anchor_id": "age", "verdict": verdict}
        assert collection.post("feedback", body).status_code == 201
    export = collection.http.get(f"{collection.url}/feedback:export")
    path.write_bytes(export.content)
    return path


def test_exported_feedback_is_read_as_it_is(collection: CollectionClient, tmp_path: Path) -> None:
    """Every verdict is a pair, whatever its text holds; the further columns are passed over."""
    pairs = read_pairs(exported(collection, tmp_path / "feedback.jsonl"))
    found = [
        (pairs.texts[left], pairs.texts[right], bool(label))
        for left, right, label in zip(pairs.left, pairs.right, pairs.labels, strict=True)
    ]
    assert found == [
        (question.strip(), "What is your age?", verdict == "duplicate")
        for question, verdict in VERDICTS
    ]
    assert not pairs.dropped


def test_a_run_takes_exported_feedback_beside_other_pairs(
    collection: CollectionClient, tmp_path: Path, shared_service: httpx.Client
) -> None:
    """`deja-train --pairs FEEDBACK OTHERS --dev DEV` reads it without a word about its form."""
    assert shared_service.get("/readyz").status_code == 200
    feedback = exported(collection, tmp_path / "feedback.jsonl")
    others, dev = tmp_path / "others.tsv", tmp_path / "dev.tsv"
    header = "text1\ttext2\tlabel\n"
    others.write_text(header + "".join(f"a {n}\tb {n}\t{n % 2}\n" for n in range(40)))
    dev.write_text(header + "".join(f"c {n}\td {n}\t{n % 2}\n" for n in range(40)))
    prepared = prepare(
        read_config(None, {"output": tmp_path / "run", "pairs": (feedback, others), "dev": (dev,)})
    )
    assert prepared.summary["pairs"] == len(VERDICTS) + 40
    assert [source["path"] for source in prepared.summary["files"]] == [
        "feedback.jsonl",
        "others.tsv",
    ]
