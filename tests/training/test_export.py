"""A fresh export from the pinned weights, against sentence-transformers and what is committed."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import training
from app.domain.labels import FALLBACK
from app.encoders.artifact import (
    CALIBRATION,
    CARD,
    LABELS,
    MODEL,
    SHIPPED,
    Artifact,
    load_artifact,
    write_artifact,
)
from app.encoders.onnx import OnnxEncoder
from training.data import read_natural_pairs
from training.errors import PrecisionLost, TrainingError, file_problem
from training.export import (
    Exported,
    Trained,
    _check_loss,
    calibration_file,
    export_artifact,
    export_model,
    load_model,
    main,
    publish_artifact,
)
from training.metrics import average_precision
from training.packing import pack_tokens
from training.sample_texts import SAMPLE_TEXTS
from training.vectors import encode_call, encode_rows, open_session, pair_similarities
from training.weights import find_base

SAMPLE = Path(training.__file__).parent / "sample" / "pairs.tsv"
COMMITTED = SHIPPED / "all-minilm-l6-v2"
PAIRS = Path(__file__).parents[3] / "shared" / "data" / "qqp" / "dev.tsv.gz"


@pytest.fixture(scope="module")
def exported() -> Exported:
    return export_model()


@pytest.fixture(scope="module")
def original() -> SentenceTransformer:
    return load_model(find_base("all-MiniLM-L6-v2"))


@pytest.fixture(scope="module")
def rebuilt(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("artifacts") / "all-minilm-l6-v2"
    shutil.copytree(COMMITTED, folder)
    return export_artifact(exported, folder)


def test_a_fresh_export_has_the_committed_vectors(rebuilt: Artifact) -> None:
    """From the pinned weights comes the encoder that is shipped: equal vectors, to 1e-3."""
    fresh, shipped = OnnxEncoder(rebuilt), OnnxEncoder(load_artifact(COMMITTED))
    np.testing.assert_allclose(
        fresh.encode(SAMPLE_TEXTS).vectors, shipped.encode(SAMPLE_TEXTS).vectors, atol=1e-3
    )


def test_only_a_bert_is_packed(
    exported: Exported, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its linear layers see no padding; a graph that numbers positions otherwise stays as it is."""
    assert exported.batching == "packed"
    monkeypatch.setattr("training.onnx_graph.model_type", lambda _: "roberta")
    other = export_model(str(tiny_model_folder))
    assert other.batching == "padded"
    assert pack_tokens(other.int8).graph.node[0].op_type == "NonZero"  # so it was not packed yet


def test_a_rebuild_says_how_its_graph_pads(exported: Exported, tmp_path: Path) -> None:
    """An artifact of before gets the new graph with the word for it, in place of its own."""
    folder = tmp_path / "all-minilm-l6-v2"
    shutil.copytree(COMMITTED, folder)
    before = load_artifact(folder)
    files = {name: (folder / name).read_bytes() for name in before.manifest.files}
    write_artifact(folder, before.manifest.model_copy(update={"batching": "padded"}), files)
    assert export_artifact(exported, folder).manifest.batching == "packed"


def test_a_rebuild_without_pairs_keeps_calibration_and_figures(rebuilt: Artifact) -> None:
    """As the vectors are the same, what was measured on them still holds."""
    shipped = load_artifact(COMMITTED)
    assert rebuilt.calibration == shipped.calibration
    assert rebuilt.manifest.metrics == shipped.manifest.metrics
    assert rebuilt.manifest.made["calibrated_on"] == shipped.manifest.made["calibrated_on"]


def test_a_rebuild_with_other_vectors_keeps_no_calibration(
    exported: Exported, tmp_path: Path
) -> None:
    """An fp32 export does not take over what was fitted on the int8 vectors."""
    folder = tmp_path / "all-minilm-l6-v2"
    shutil.copytree(COMMITTED, folder)
    with pytest.raises(
        TrainingError, match=r"its calibration cannot be kept, .* give --pairs FILE"
    ):
        export_artifact(exported, folder, precision="fp32")


def test_the_fp32_graph_is_the_original_model(
    exported: Exported, original: SentenceTransformer
) -> None:
    """Every sample text's vector has a cosine of at least 0.99999 with sentence-transformers'."""
    expected = original.encode(list(SAMPLE_TEXTS), normalize_embeddings=True)
    session = open_session(exported.fp32)
    found = encode_rows(session, exported.rows(SAMPLE_TEXTS), together=True)
    assert np.einsum("ij,ij->i", found, expected).min() > 0.99999


def test_the_int8_graph_stays_close(exported: Exported) -> None:
    """Its vectors have a cosine of at least 0.95 with the fp32 ones, and 0.995 on average."""
    rows = exported.rows(SAMPLE_TEXTS)
    fp32 = encode_rows(open_session(exported.fp32), rows, together=True)
    int8 = encode_rows(open_session(exported.int8), rows, together=True)
    cosine = np.einsum("ij,ij->i", fp32, int8)
    assert cosine.min() > 0.95
    assert cosine.mean() > 0.995


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_padding_and_batch_mates_change_nothing(exported: Exported, precision: str) -> None:
    """All sample texts in one padded call get the vectors they get alone, to 1e-5."""
    session = open_session(exported.graph(precision))
    rows = exported.rows(SAMPLE_TEXTS)
    alone = encode_rows(session, rows, together=False)
    np.testing.assert_allclose(encode_call(session, rows), alone, atol=1e-5)


def test_the_int8_graph_is_small(exported: Exported) -> None:
    """At most 25 MB, so that it can be committed."""
    assert exported.int8.ByteSize() < 25_000_000


def test_exporting_twice_gives_the_same_bytes(exported: Exported) -> None:
    """Same weights, same libraries, same machine: the same graph, bit by bit."""
    again = export_model()
    assert again.int8.SerializeToString(deterministic=True) == exported.int8.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("name", ["my model", "..", "-x"])
def test_a_folder_no_artifact_can_be_named_like_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One line, before the work."""
    assert main(["--output", str(tmp_path / name)]) == 1
    assert "an artifact is named like its folder" in capsys.readouterr().err


def test_no_calibration_and_no_pairs_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exporting to a new place without pairs says what is missing."""
    assert main(["--output", str(tmp_path / "new")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: no calibration to keep (")
    assert message.endswith("give --pairs FILE\n")


def test_a_place_that_cannot_be_written_is_one_clear_line(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its name and what to do."""
    monkeypatch.setattr("training.export.export_model", lambda _: exported)
    (tmp_path / "file").write_text("no folder")
    assert main(["--output", str(tmp_path / "file" / "new"), "--pairs", str(SAMPLE)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'file'}: File exists; mend that and give the same command again\n"
    )


def test_a_full_disk_is_said_with_its_remedy() -> None:
    """Another one than for a place that cannot be written."""
    full = OSError(errno.ENOSPC, "No space left on device", "/runs/model.onnx")
    assert file_problem(full) == (
        "/runs/model.onnx: No space left on device; make room and give the same command again"
    )


@pytest.mark.parametrize(("int8", "allowed"), [(0.7951, True), (0.7949, False)])
def test_what_int8_may_lose_is_bounded(*, int8: float, allowed: bool) -> None:
    """Half a point of average precision: 0.49 are allowed, 0.51 are not."""
    measured = {"fp32": 0.8, "int8": int8}
    if allowed:
        _check_loss(measured, "int8", 0.5)
        return
    with pytest.raises(PrecisionLost) as error:
        _check_loss(measured, "int8", 0.5)
    assert str(error.value) == (
        "int8 loses 0.51 points of average precision against fp32, more than the 0.5 allowed"
    )


def test_an_artifact_that_loses_too_much_is_not_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On few pairs so little is chance, and it is written."""
    pairs = read_natural_pairs(SAMPLE)
    written = export_artifact(
        exported, tmp_path / "few", pairs=pairs, population="sample", largest_loss=-100
    )
    assert written.manifest.precision == "int8"
    monkeypatch.setattr("training.export._ENOUGH_PAIRS", len(pairs))
    with pytest.raises(PrecisionLost, match="more than the -100 allowed"):
        export_artifact(
            exported, tmp_path / "many", pairs=pairs, population="sample", largest_loss=-100
        )
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_a_tuned_artifact_is_published_with_its_figures(exported: Exported, tmp_path: Path) -> None:
    """What it was trained on stays, figures and card are new, the graph is the same bytes."""
    summary = {"files": [], "pairs": 4, "positives": 2, "negatives": 2, "texts": 6, "groups": 2}
    trained = Trained(
        base=find_base("all-MiniLM-L6-v2"),
        config={"loss": "full"},
        data={**summary, "dropped": {}, "dev": {"held-out": 9}},
        terms="Ours.",
    )
    staged = export_artifact(
        exported,
        tmp_path / "staged" / "tuned",
        precision="fp32",
        pairs=read_natural_pairs(SAMPLE),
        population="sample",
        release="3",
        trained=trained,
    )
    beside = {"base": {"sample": 0.8}, "fp32": {"sample": 0.9}}
    published = publish_artifact(staged, tmp_path / "support-en", beside)
    assert published == load_artifact(tmp_path / "support-en")
    manifest = published.manifest
    assert (manifest.name, manifest.version, manifest.base_model) == (
        "support-en",
        "3",
        "all-MiniLM-L6-v2",
    )
    assert manifest.metrics == {**staged.manifest.metrics, "beside": beside}
    assert manifest.made == staged.manifest.made
    assert manifest.made["trained_on"] == {**summary, "dropped": {}}
    assert (manifest.made["training"], manifest.made["terms"]) == ({"loss": "full"}, "Ours.")
    assert manifest.files[MODEL] == staged.manifest.files[MODEL]
    assert "support-en" in (published.path / CARD).read_text()


def tuned(exported: Exported, folder: Path, sha256: str | None = None) -> Artifact:
    """Return an artifact as training, refit and labels leave it, of these weights by default."""
    shipped = load_artifact(SHIPPED / "deja-en-1")
    made = {
        **shipped.manifest.made,
        "weights_sha256": sha256 or exported.base.sha256,
        "base_weights_sha256": "aa",
        "training": {"loss": "full"},
        "trained_on": {"files": []},
        "terms": "Ours.",
    }
    beside = {"base": {"sample": 0.8}, "fp32": {"sample": 0.9}, "int8": {"sample": 0.89}}
    figures = {"set": "x", "anchors": 1, "accuracy": 0.5, "auroc": 0.6}
    metrics = {**shipped.manifest.metrics, "beside": beside, "labels": [figures]}
    update = {"base_model": "its-base", "licence": "MIT", "made": made, "metrics": metrics}
    manifest = shipped.manifest.model_copy(update={**update, "name": folder.name})
    files = {name: (shipped.path / name).read_bytes() for name in shipped.manifest.files}
    files[MODEL] = exported.int8.SerializeToString(deterministic=True)
    files[CALIBRATION] = calibration_file(shipped.calibration, FALLBACK.to_json())
    return write_artifact(folder, manifest, files)


def recalibrated(exported: Exported, output: Path, precision: str = "int8") -> Artifact:
    return export_artifact(
        exported,
        output,
        precision=precision,
        pairs=read_natural_pairs(SAMPLE),
        population="sample",
    )


def test_the_same_vectors_calibrated_afresh_keep_what_holds(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Story, terms, licence and labels; the head, which the fit leaves out, is said to be gone."""
    before = tuned(exported, tmp_path / "mine")
    found = recalibrated(exported, tmp_path / "mine")
    for name in ("origin", "training", "trained_on", "terms", "base_weights_sha256"):
        assert found.manifest.made[name] == before.manifest.made[name]
    assert (found.manifest.base_model, found.manifest.licence) == ("its-base", "MIT")
    for name in ("beside", "labels"):
        assert found.manifest.metrics[name] == before.manifest.metrics[name]
    assert LABELS in json.loads((found.path / CALIBRATION).read_bytes())
    assert found.calibration.population == "sample"
    assert "held_out" not in found.manifest.metrics
    assert "head" not in found.manifest.made
    assert "**Terms of the data:** Ours." in (found.path / CARD).read_text("utf-8")
    assert capsys.readouterr().err == (
        f"{tmp_path / 'mine'}: left out of what stood there: the head "
        "(python -m training.refit --train makes another)\n"
    )


def test_other_vectors_of_the_same_weights_keep_the_story(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was fitted or measured on the vectors of before is left out, and said."""
    before = tuned(exported, tmp_path / "mine")
    found = recalibrated(exported, tmp_path / "mine", "fp32")
    assert found.manifest.made["terms"] == "Ours."
    assert found.manifest.licence == "MIT"
    beside = before.manifest.metrics["beside"]
    assert found.manifest.metrics["beside"] == {name: beside[name] for name in ("base", "fp32")}
    assert "labels" not in found.manifest.metrics
    assert LABELS not in json.loads((found.path / CALIBRATION).read_bytes())
    said = capsys.readouterr().err
    for lost in ("the head (", "one-shot labels (", "the figures of int8 beside its base"):
        assert f"left out of what stood there: {lost}" in said


def test_other_weights_keep_nothing_and_say_so(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The story of one model is not told of another."""
    tuned(exported, tmp_path / "mine", "bb")
    found = recalibrated(exported, tmp_path / "mine")
    assert found.manifest.base_model == "all-MiniLM-L6-v2"
    assert found.manifest.licence == "Apache-2.0"
    assert not found.manifest.made.keys() & {"training", "trained_on", "terms"}
    assert not found.manifest.metrics.keys() & {"beside", "labels"}
    assert "what it was trained on, as the weights are others" in capsys.readouterr().err


@pytest.mark.skipif(not PAIRS.is_file(), reason=f"needs {PAIRS}, which is not part of the project")
@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "deja-en-1"])
def test_the_shipped_figures_are_those_measured(name: str) -> None:
    """Average precision on the pairs of its calibration is what its manifest says.

    To 0.001, as a handful of pairs with contradictory labels is left out of the claim.
    """
    artifact = load_artifact(SHIPPED / name)
    pairs = read_natural_pairs(PAIRS)
    assert artifact.manifest.made["calibrated_on"]["sha256"] == pairs.fingerprint
    vectors = OnnxEncoder(artifact).encode(pairs.texts).vectors
    measured = average_precision(pair_similarities(vectors, pairs), pairs.labels)
    claimed = artifact.manifest.metrics["average_precision"]
    assert measured == pytest.approx(claimed["int8"], abs=1e-3)
    if "training" in artifact.manifest.made:
        assert claimed["fp32"] - claimed["int8"] <= 0.005
    assert (artifact.path / MODEL).stat().st_size < 25_000_000
