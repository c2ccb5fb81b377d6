"""Encoder artifacts are written whole and refused, by name, where anything does not match."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.calibration import Calibration, CutOff
from app.domain.errors import ArtifactError
from app.encoders.artifact import (
    CALIBRATION,
    FILES,
    MANIFEST,
    MODEL,
    SHIPPED,
    Manifest,
    find_artifact,
    load_artifact,
    write_artifact,
)
from app.encoders.head import head_of

CALIBRATED = Calibration(
    intercept=-8.0,
    slope=10.0,
    base_rate=0.37,
    population="made-up pairs",
    pairs=10,
    cut_offs_table=(CutOff(0.5, 0.75, 0.5),),
)
CONTENTS = {
    "model.onnx": b"a graph",
    "tokenizer.json": b"{}",
    "calibration.json": json.dumps(CALIBRATED.to_json()).encode(),
    "README.md": b"# tiny",
}


def described(name: str = "tiny") -> Manifest:
    return Manifest(
        name=name,
        version="1",
        base_model="none",
        dimension=4,
        max_tokens=8,
        pooling="mean",
        precision="int8",
        batching="padded",
        licence="Apache-2.0",
        made={},
        metrics={},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    write_artifact(path, described(), CONTENTS)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(path)
    return str(caught.value)


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    """A written artifact loads with its manifest, calibration and the hash of its manifest."""
    artifact = load_artifact(folder)
    assert artifact.path == folder
    assert artifact.manifest.files == {
        name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()
    }
    assert artifact.calibration == CALIBRATED
    assert artifact.fingerprint == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def test_the_same_content_is_the_same_artifact(folder: Path, tmp_path: Path) -> None:
    """Writing the same content elsewhere gives the same fingerprint."""
    again = write_artifact(tmp_path / "elsewhere" / "tiny", described(), CONTENTS)
    assert again.fingerprint == load_artifact(folder).fingerprint


def test_writing_replaces_an_artifact_and_leaves_nothing_else(folder: Path) -> None:
    """An artifact written over another takes its place, with no working files left beside it."""
    write_artifact(folder, described(), CONTENTS | {MODEL: b"another graph"})
    assert (folder / MODEL).read_bytes() == b"another graph"
    assert sorted(path.name for path in folder.iterdir()) == sorted((*FILES, MANIFEST))
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_writing_needs_every_file(tmp_path: Path) -> None:
    """An artifact without a model card is not written at all."""
    contents = {name: content for name, content in CONTENTS.items() if name != "README.md"}
    with pytest.raises(ArtifactError, match=r"README\.md: was not given"):
        write_artifact(tmp_path / "tiny", described(), contents)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    assert refusal(tmp_path / "gone").startswith(f"{tmp_path / 'gone'}: there is no such folder")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    """Each file of the folder is required."""
    (folder / name).unlink()
    assert refusal(folder).startswith(f"{folder / name}: is missing; ")


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_refused_by_name(folder: Path, name: str) -> None:
    """A file that differs from its hash in one byte is named."""
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    assert refusal(folder).startswith(f"{folder / name}: is not the file manifest.json describes")


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    """A cut-off manifest, as a broken copy leaves it, is refused."""
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])
    assert refusal(folder).startswith(f"{folder / MANIFEST}: the whole: Invalid JSON")


@pytest.mark.parametrize(
    ("field", "value"),
    [("dimension", 0), ("precision", "int3"), ("name", "../tiny"), ("format", 2)],
)
def test_a_manifest_with_a_bad_field_names_it(folder: Path, field: str, value: object) -> None:
    """A value the manifest cannot have is refused with the field's name."""
    data = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(data | {field: value}))
    assert refusal(folder).startswith(f"{folder / MANIFEST}: {field}: ")


def test_a_manifest_must_list_every_file(folder: Path) -> None:
    """A manifest that leaves the model unhashed is refused."""
    data = json.loads((folder / MANIFEST).read_text())
    del data["files"][MODEL]
    (folder / MANIFEST).write_text(json.dumps(data))
    assert refusal(folder).startswith(f"{folder / MANIFEST}: does not list model.onnx")


def test_a_manifest_cannot_point_outside_its_folder(folder: Path) -> None:
    """A listed name with a path in it is refused before anything is read."""
    data = json.loads((folder / MANIFEST).read_text())
    data["files"]["../secret"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(data))
    assert "lists '../secret', not a plain name" in refusal(folder)


def test_a_bad_calibration_names_the_file_and_the_field(tmp_path: Path) -> None:
    """A calibration whose hash matches but whose content is wrong is still refused."""
    broken = json.dumps(CALIBRATED.to_json() | {"base_rate": 2})
    with pytest.raises(ArtifactError) as caught:
        write_artifact(tmp_path / "tiny", described(), CONTENTS | {CALIBRATION: broken.encode()})
    expected = f"{tmp_path / 'tiny' / CALIBRATION}: calibration: base_rate must be between 0 and 1"
    assert str(caught.value).startswith(expected)


def test_an_artifact_is_found_by_name_then_by_path(folder: Path) -> None:
    """A name is looked for in the given folders and the shipped ones; a path is taken as it is."""
    assert find_artifact("tiny", [folder.parent]) == folder
    assert find_artifact("all-minilm-l6-v2") == SHIPPED / "all-minilm-l6-v2"
    assert find_artifact(str(folder)) == folder


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path) -> None:
    """The error for an unknown artifact lists what there is."""
    with pytest.raises(ArtifactError, match="known names: all-minilm-l6-v2, deja-en-1, tiny"):
        find_artifact("nothing", [folder.parent])


def test_a_head_with_a_weight_must_be_there(tmp_path: Path) -> None:
    """Without its graph the probabilities would be wrong, so the folder is refused."""
    weighted = replace(CALIBRATED, head=0.5)
    contents = {**CONTENTS, CALIBRATION: json.dumps(weighted.to_json()).encode()}
    with pytest.raises(ArtifactError, match=r"does not list head\.onnx"):
        write_artifact(tmp_path / "headless", described("headless"), contents)
    whole = write_artifact(tmp_path / "tiny", described(), {**contents, "head.onnx": b"no graph"})
    assert whole.calibration.head == 0.5
    with pytest.raises(ArtifactError, match=r"head\.onnx: the head cannot be loaded"):
        head_of(whole)


def test_what_cannot_be_loaded_replaces_nothing(folder: Path) -> None:
    """A name that is none is found out before the artifact that is there makes room."""
    files = {name: (folder / name).read_bytes() for name in FILES}
    before = load_artifact(folder)
    unusable = described().model_copy(update={"name": "not a name"})
    with pytest.raises(ArtifactError, match=r"^[^ ]*/tiny/manifest.json: name: "):
        write_artifact(folder, unusable, files)
    assert load_artifact(folder) == before
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
