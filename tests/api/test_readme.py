"""What the README shows is what the shipped service answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import CollectionClient

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_answer_is_the_services(collection: CollectionClient) -> None:
    """Registered and asked as shown; figures may differ in the third digit between machines."""
    text = README.read_text("utf-8")
    registered, asked = (
        json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", text, flags=re.DOTALL)[:2]
    )
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)[0])
    collection.register(*registered["anchors"])
    found = collection.ask(asked["question"])
    for match, expected in zip(found["matches"], shown["matches"], strict=True):
        for figure in ("similarity", "probability"):
            assert match.pop(figure) == pytest.approx(expected.pop(figure), abs=0.01)
    assert found == shown
