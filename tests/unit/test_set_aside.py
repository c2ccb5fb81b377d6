"""Corrections of another encoder are said at the start."""

from __future__ import annotations

import logging

import pytest

from app.domain.anchors import CollectionSettings
from app.domain.cut_offs import Correction
from app.storage.memory import MemoryAnchorStore
from app.usecases.startup import report_set_aside


def test_a_correction_of_another_encoder_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """With the collection and the command that fits it again; others are passed over."""
    store = MemoryAnchorStore("encoder-1")
    with store.write() as rows:
        rows.put_collection("support", CollectionSettings())
        rows.put_correction(rows.collection("support").key, Correction(1.0, 1.0), (1, 2))
    assert report_set_aside(store, "encoder-1") == 0
    later = store.reopened("encoder-2")
    with caplog.at_level(logging.WARNING, "deja.startup"):
        assert report_set_aside(later, "encoder-2") == 1
    (message,) = caplog.messages
    assert message == (
        "collection 'support': its correction was fitted for another encoder and is set aside; "
        "fit it again with `deja calibrate -c support`"
    )
