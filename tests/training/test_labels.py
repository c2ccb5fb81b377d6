"""One-shot labels: episodes, the fit against known answers, and the artifact that carries it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.domain.errors import ArtifactError
from app.domain.labels import FALLBACK, LABELS, score
from app.encoders.artifact import (
    CALIBRATION,
    CARD,
    Artifact,
    Manifest,
    load_artifact,
    write_artifact,
)
from training.calibrate_labels import main, measure, read_sets, with_labels
from training.data import LabelledTexts
from training.errors import TrainingError
from training.label_episodes import (
    MISSED,
    NONE,
    Episode,
    Shots,
    draw_episode,
    read_shots,
)
from training.label_fit import _Flat, draw_episodes, fit_weights
from training.label_tasks import evaluate_labels


def clusters(
    labels: int, texts: int, *, spread: float, seed: int = 0, none: int = 0, dim: int = 32
) -> Shots:
    """Return labels as clusters of vectors around random centres, and texts of no label."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(labels, dim))
    vectors = np.repeat(centres, texts, axis=0) + spread * rng.normal(size=(labels * texts, dim))
    vectors = np.concatenate([vectors, rng.normal(size=(none, dim))])
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [f"label {number:02}" for number in range(labels) for _ in range(texts)] + [""] * none
    everything = np.arange(len(names))
    return Shots(f"clusters {seed}", unit, np.array(names), everything, everything)


def draw(shots: Shots, *, known: int, anchors: int = 1, seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    return draw_episode(shots, rng, known=known, anchors=[anchors], questions=40, outside=30)


def test_an_episode_asks_of_known_labels_and_of_others() -> None:
    """Questions are no anchors; those of left-out labels and of no label are none."""
    episode = draw(clusters(6, 10, spread=0.05, none=10), known=3)
    assert (episode.truths == NONE).sum() == 30
    assert len(episode.near) == 27 + 30
    inside = episode.truths != NONE
    # Tight clusters: the nearest anchor is the label's own, so it is number 0.
    assert episode.truths[inside].tolist() == [0] * 27
    assert episode.nearest_right[inside].all()
    assert not episode.nearest_right[~inside].any()
    assert all(near.similarities[0] < 1 for near in episode.near)


def test_a_label_that_is_not_among_those_that_count_is_missed() -> None:
    """Of 40 labels without structure, some lie behind 32 others."""
    episode = draw(clusters(40, 3, spread=50.0), known=40)
    assert (episode.truths == MISSED).any()
    assert max(int(near.labels.max()) for near in episode.near) == LABELS - 1


def test_the_same_seed_draws_the_same_episode() -> None:
    """Randomness is passed in."""
    shots = clusters(6, 10, spread=0.5)
    one, two = draw(shots, known=4, seed=3), draw(shots, known=4, seed=3)
    assert one.truths.tolist() == two.truths.tolist()
    for left, right in zip(one.near, two.near, strict=True):
        assert left.hubness.tolist() == right.hubness.tolist()


def test_the_loss_of_the_fit_is_that_of_the_service() -> None:
    """Against `score`, question by question: -log P(right label), given that it has one."""
    episodes = [
        draw(clusters(8, 12, spread=0.8, seed=seed), known=5, anchors=3, seed=seed)
        for seed in (1, 2)
    ]
    weights = replace(FALLBACK.weights, crowd=0.7, relative=0.3)
    losses = []
    for episode in episodes:
        own = []
        for near, truth in zip(episode.near, episode.truths.tolist(), strict=True):
            if truth >= 0:
                scored = score(near, weights)
                own.append(-np.log(scored.labels[truth] / (1 - scored.none)))
        losses.append(np.mean(own))
    assert _Flat.of(episodes).loss(weights) == pytest.approx(float(np.mean(losses)), abs=1e-6)


def test_fitted_weights_are_better_than_those_they_start_from() -> None:
    """On episodes they have not seen; and none is told from the rest."""
    weights = fit_weights(draw_episodes([clusters(12, 20, spread=0.9, none=40)], seed=0))
    unseen = clusters(12, 20, spread=0.9, none=40, seed=7)
    flat = _Flat.of(draw_episodes([unseen], seed=1))
    assert flat.loss(weights) < flat.loss(FALLBACK.weights)
    figures = evaluate_labels(unseen, weights, anchors=3, draws=3)
    assert figures["auroc"] > 0.9
    assert weights.best < 0


def test_clear_labels_are_told_without_fail() -> None:
    """Accuracy and AUROC are 1, and so is what the nearest anchor says."""
    figures = evaluate_labels(
        clusters(6, 10, spread=0.02, none=30), FALLBACK.weights, anchors=1, draws=2
    )
    assert (figures["accuracy"], figures["nearest"], figures["auroc"]) == (1.0, 1.0, 1.0)
    assert (figures["accuracy_spread"], figures["auroc_spread"]) == (0.0, 0.0)


def test_a_set_is_measured_with_weights_of_the_others() -> None:
    """So one alone cannot be."""
    with pytest.raises(TrainingError, match="give two at least"):
        measure([clusters(3, 5, spread=0.1)], draws=1, seed=0)


def test_one_set_twice_is_refused() -> None:
    """It would be measured with weights fitted on itself."""
    once = clusters(3, 5, spread=0.1)
    with pytest.raises(TrainingError, match="two sets are called clusters 0"):
        measure([once, once], draws=1, seed=0)


@pytest.mark.parametrize("size", [0, 40, 200])
def test_kept_vectors_that_were_cut_are_made_again(tmp_path: Path, size: int) -> None:
    """And kept whole, with nothing else left in the folder."""
    file, cache = tmp_path / "set.tsv", tmp_path / "cache"
    file.write_text("text\tlabel\none\tx\ntwo\tx\nthree\ty\nfour\ty\n", "utf-8")
    shipped = load_artifact("app/artifacts/all-minilm-l6-v2")

    def vectors() -> list[list[float]]:
        (shots,) = read_sets(shipped, [file], none_label="NONE", threads=1, cache=cache)
        found: list[list[float]] = shots.vectors.tolist()
        return found

    whole = vectors()
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:size])
    assert vectors() == whole
    assert [path.read_bytes() for path in cache.iterdir()] == [content]


def test_vectors_that_cannot_be_kept_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk is full half-way."""

    def half(path: Path, _vectors: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", half)
    file = tmp_path / "set.tsv"
    file.write_text("text\tlabel\none\tx\ntwo\ty\n", "utf-8")
    shipped = load_artifact("app/artifacts/all-minilm-l6-v2")
    with pytest.raises(OSError, match="No space left"):
        read_sets(shipped, [file], none_label="NONE", threads=1, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_texts_of_no_label_and_splits_are_respected() -> None:
    """Anchors from `train`, questions from `test`, as one-shot measuring does."""
    texts = LabelledTexts(
        ("a", "b", "c", "d", "e"),
        ("x", "y", "x", "NONE", "y"),
        ("train", "train", "test", "test", "valid"),
        "",
    )
    shots = read_shots("set", texts, np.eye(5, dtype=np.float32), "NONE")
    assert (shots.pool.tolist(), shots.asked.tolist()) == ([0, 1], [2, 3])
    assert shots.labels.tolist() == ["x", "y", "x", "", "y"]
    with pytest.raises(TrainingError, match="needs two labels"):
        read_shots("set", texts.take([0, 2]), np.eye(2, dtype=np.float32), "NONE")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Return an artifact whose model is a few bytes: nothing here runs it."""
    shipped = load_artifact("app/artifacts/all-minilm-l6-v2")
    calibration = json.loads((shipped.path / CALIBRATION).read_text())
    calibration.pop("labels", None)
    kept = {name: (shipped.path / name).read_bytes() for name in shipped.manifest.files}
    files = {**kept, "model.onnx": b"model", CALIBRATION: json.dumps(calibration).encode()}
    manifest: Manifest = shipped.manifest.model_copy(update={"files": {}, "metrics": {"kept": 1}})
    return write_artifact(tmp_path / "artifact", manifest, files)


def test_an_artifact_carries_its_labels(artifact: Artifact) -> None:
    """Beside the calibration of pairs, which stays; it is another artifact then."""
    assert artifact.labels == FALLBACK
    own = replace(FALLBACK, weights=replace(FALLBACK.weights, sharpness=11.0), texts=7)
    figures = {"set": "x", "anchors": 1, "accuracy": 0.5, "auroc": 0.625}
    written = with_labels(artifact, own, [figures])
    assert written.labels == own
    card = (written.path / CARD).read_text("utf-8")
    assert "| set | accuracy at 1 | AUROC at 1 |\n|---|---:|---:|\n| x | 50.0 | 62.5 |\n" in card
    assert written.calibration == artifact.calibration
    assert written.fingerprint != artifact.fingerprint
    assert written.manifest.metrics == {"kept": 1, "labels": [figures]}


def test_a_malformed_section_refuses_the_artifact(artifact: Artifact) -> None:
    """By file and field."""
    section = {**FALLBACK.to_json(), "texts": 0}
    calibration = json.loads((artifact.path / CALIBRATION).read_text())
    files = {name: (artifact.path / name).read_bytes() for name in artifact.manifest.files}
    files[CALIBRATION] = json.dumps({**calibration, "labels": section}).encode()
    with pytest.raises(ArtifactError, match=r"labels\.texts must be a whole number above 0"):
        write_artifact(artifact.path, artifact.manifest, files)


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with status 1."""
    missing = tmp_path / "none.tsv"
    assert main(["all-minilm-l6-v2", "--sets", str(missing)]) == 1
    assert capsys.readouterr().err == f"error: {missing}: there is no such file; check the path\n"


@pytest.mark.parametrize("draws", ["0", "-1", "some"])
def test_a_number_of_draws_that_measures_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], draws: str
) -> None:
    """Before the work, by the flag."""
    with pytest.raises(SystemExit):
        main(["all-minilm-l6-v2", "--sets", "a.tsv", "b.tsv", "--draws", draws])
    error = capsys.readouterr().err
    assert f"argument --draws: {draws} is no whole number from 1 on" in error
