"""From pairs to an artifact that the service answers from, whatever interrupts it on the way."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import training
from app.domain.errors import ArtifactError
from app.encoders.artifact import load_artifact
from tests.conftest import CollectionClient, Serve
from tests.training.small_run import (
    NOUNS,
    VERBS,
    config,
    log,
    questions,
    weights,
    write_pairs,
)
from training import finish, run
from training.cli import main
from training.config import TrainConfig, read_config
from training.errors import PrecisionLost, TrainingError
from training.pipeline import run_pipeline
from training.prepare import prepare
from training.tuned import write_model
from training.whitening import matrix_of, whitening

SAMPLE = Path(training.__file__).parent / "sample" / "config.toml"
LEFT = {
    "checkpoints",
    "config.json",
    "data.json",
    "errors.json",
    "evaluation.json",
    "log.jsonl",
    "model",
    "reliability.json",
    "report.html",
    "small",
}


@pytest.fixture(scope="module")
def done(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Return the config of a whole small run, which is done."""
    chosen = config(tmp_path_factory.mktemp("done"), tiny_model_folder)
    assert run_pipeline(chosen) == chosen.output / "small"
    return chosen


@pytest.fixture
def copied(done: TrainConfig, tmp_path: Path) -> TrainConfig:
    """Return the config of a copy of that run, to take parts away from."""
    shutil.copytree(done.output.parent, tmp_path, dirs_exist_ok=True)
    chosen = done.model_copy(
        update={"output": tmp_path / "run", "pairs": (tmp_path / "pairs.tsv",)}
    )
    run.write_json(chosen.output / run.CONFIG, chosen.saved())
    return chosen


def answers(serve: Serve, folder: Path, artifact: Path, *, anchor: str, asked: str) -> Any:
    """Return what the service with an artifact answers, of one anchor, to a question."""
    with serve(folder, encoder=str(artifact)) as client:
        assert client.get("/v1/info").json()["encoder"]["name"] == artifact.name
        collection = CollectionClient(client, "questions")
        assert client.put(collection.url, json={}).status_code == 201
        collection.register({"id": "known", "text": anchor})
        return collection.ask(asked)


def test_a_run_leaves_what_is_documented(done: TrainConfig) -> None:
    """Nothing more, nothing half-done, and settings that can be resumed with."""
    assert {path.name for path in done.output.iterdir()} == LEFT
    run.check(done, resume=True)
    evaluation = run.read_json(done.output / run.EVALUATION)["encoders"]
    assert [encoder["role"] for encoder in evaluation] == ["base", "fp32", "int8"]
    assert evaluation[0]["sets"]["held-out"]["average_precision"] < 0.6
    assert evaluation[1]["sets"]["held-out"]["average_precision"] == 1.0
    reliability = run.read_json(done.output / run.RELIABILITY)
    assert reliability["pairs"] == sum(one["pairs"] for one in reliability["bins"]) == 32
    errors = run.read_json(done.output / run.ERRORS)
    assert {name: len(listed) for name, listed in errors.items()} == {
        "false_duplicates": 15,
        "missed_duplicates": 15,
    }
    probabilities = {name: [one["probability"] for one in errors[name]] for name in errors}
    assert probabilities["false_duplicates"] == sorted(
        probabilities["false_duplicates"], reverse=True
    )
    assert probabilities["missed_duplicates"] == sorted(probabilities["missed_duplicates"])


def test_the_artifact_says_what_it_was_made_from(done: TrainConfig) -> None:
    """Base, settings, data and terms, and its figures beside its base's."""
    manifest = load_artifact(done.output / "small").manifest
    assert (manifest.name, manifest.precision, manifest.dimension) == ("small", "int8", 32)
    assert manifest.base_model == "model"
    assert manifest.made["training"] == run.read_json(done.output / run.CONFIG)
    assert manifest.made["trained_on"]["positives"] == 48
    assert manifest.made["calibrated_on"]["population"] == "25% of pairs.tsv"
    assert manifest.made["weights_sha256"] != manifest.made["base_weights_sha256"]
    beside = manifest.metrics["beside"]
    assert list(beside) == ["base", "fp32", "int8"]
    assert beside["fp32"]["held-out"] == 1.0


def test_the_service_answers_from_the_artifact(
    done: TrainConfig, tmp_path: Path, serve: Serve
) -> None:
    """A question worded otherwise is a duplicate of its anchor."""
    artifact = done.output / "small"
    anchor, asked, _ = questions()[0]
    answer = answers(serve, tmp_path, artifact, anchor=anchor, asked=asked)
    assert [match["id"] for match in answer["matches"]] == ["known"]
    assert answer["matches"][0]["probability"] > 0.5


def finished(chosen: TrainConfig, done: TrainConfig) -> None:
    """Check that a run is as whole as the one that was not interrupted, and has its vectors."""
    assert {path.name for path in chosen.output.iterdir()} == LEFT
    artifact, first = load_artifact(chosen.output / "small"), load_artifact(done.output / "small")
    assert artifact.manifest.files["model.onnx"] == first.manifest.files["model.onnx"]
    assert log(chosen.output) == log(done.output)


@pytest.mark.parametrize(
    "lost",
    [
        ["report.html"],
        ["report.html", "small"],
        ["report.html", "small", "evaluation.json", "errors.json", "reliability.json"],
        ["report.html", "small", "evaluation.json", "errors.json", "reliability.json", "model"],
    ],
    ids=["report", "artifact", "figures", "model"],
)
def test_a_run_goes_on_after_each_part(
    copied: TrainConfig, done: TrainConfig, lost: list[str]
) -> None:
    """What is there is not made again, what is not is made, whatever a kill left beside it."""
    for name in lost:
        path = copied.output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "small" in lost:
        staged = copied.output / ".staging" / "small"
        staged.mkdir(parents=True)
        (staged / "model.onnx").write_bytes(b"half")
        (copied.output / ".model.partial").mkdir()
        (copied.output / ".model.partial" / "config.json").touch()
    model = copied.output / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns if model.exists() else None
    assert run_pipeline(copied, resume=True) == copied.output / "small"
    shutil.rmtree(copied.output / ".model.partial", ignore_errors=True)
    finished(copied, done)
    if before is not None:
        assert model.stat().st_mtime_ns == before


def test_a_run_is_finished_again_with_another_blend(copied: TrainConfig, done: TrainConfig) -> None:
    """Model, artifact, figures and report are of that share of the way; the end is kept."""
    whole = weights(done.output)
    base = load_file(Path(done.base) / "model.safetensors")
    first = run.read_json(copied.output / run.EVALUATION)
    steps = log(copied.output)
    for share in (0.5, 0.25, 1.0):
        chosen = copied.changed(blend=share)
        artifact = run_pipeline(chosen, resume=True)
        assert artifact == chosen.output / "small"
        for name, weight in weights(chosen.output).items():
            wanted = torch.lerp(base[name], whole[name], share)
            torch.testing.assert_close(weight, wanted, atol=1e-6, rtol=0)
        made = load_artifact(artifact).manifest.made
        assert made["training"]["blend"] == share
        assert run.read_json(chosen.output / run.CONFIG)["blend"] == share
        again = run.read_json(chosen.output / run.EVALUATION)
        assert (again == first) == (share == 1)
        said = f"{share:.0%} of the tuned weights and the rest the base"
        assert (said in (chosen.output / run.REPORT).read_text()) == (share < 1)
        kept = load_file(chosen.output / run.TRAINED / "model.safetensors")
        assert all(torch.equal(kept[name], weight) for name, weight in whole.items())
        assert {path.name for path in chosen.output.iterdir()} == LEFT | {run.TRAINED}
    assert log(copied.output) == steps


def test_a_run_is_finished_again_whitened(copied: TrainConfig, done: TrainConfig) -> None:
    """By the texts of its own pairs; and back again to what it was."""
    whole = weights(done.output)
    ended = SentenceTransformer(str(done.output / run.MODEL), device="cpu")
    texts = prepare(done).pairs.texts
    vectors = ended.encode(list(texts), normalize_embeddings=True)
    for strength in (0.2, 0.4, 0.0):
        chosen = copied.changed(whiten=strength)
        artifact = run_pipeline(chosen, resume=True)
        assert artifact is not None
        matrix = matrix_of(SentenceTransformer(str(chosen.output / run.MODEL), device="cpu"))
        if strength:
            assert matrix is not None
            wanted = torch.from_numpy(whitening(vectors, strength))
            torch.testing.assert_close(matrix, wanted, atol=1e-4, rtol=1e-4)
        else:
            assert matrix is None
        found = weights(chosen.output)
        assert all(torch.equal(found[name], whole[name]) for name in whole)
        assert load_artifact(artifact).manifest.made["training"]["whiten"] == strength
        said = f"Its vectors are whitened with strength {strength:g}"
        assert (said in (chosen.output / run.REPORT).read_text()) == (strength > 0)


def test_too_few_texts_to_whiten_by_are_refused_before_training(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    """Said what to do, and nothing written."""
    file = tmp_path / "texts.txt"
    file.write_text("how do i pay ?\nwhere is my parcel ?\n")
    chosen = config(tmp_path, tiny_model_folder, whiten=0.2, unlabelled=file)
    with pytest.raises(
        TrainingError, match=r"not 2; leave it out \(--whiten 0\), or train on more"
    ):
        run_pipeline(chosen)
    assert not chosen.output.exists()


def test_unlabelled_texts_whiten_where_there_are_any(done: TrainConfig, tmp_path: Path) -> None:
    """The first ones, as many as the run may use."""
    texts = [f"{verb} your {noun}" for verb in VERBS for noun in NOUNS]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))
    shutil.copytree(done.output / run.MODEL, tmp_path / "run" / run.TRAINED)
    chosen = done.changed(output=tmp_path / "run", whiten=0.3, unlabelled=file, unlabelled_limit=50)
    write_model(chosen, prepare(chosen))
    matrix = matrix_of(SentenceTransformer(str(chosen.output / run.MODEL), device="cpu"))
    ended = SentenceTransformer(str(done.output / run.MODEL), device="cpu")
    vectors = ended.encode(texts[:50], normalize_embeddings=True)
    assert matrix is not None
    torch.testing.assert_close(
        matrix, torch.from_numpy(whitening(vectors, 0.3)), atol=1e-4, rtol=1e-4
    )


def test_a_kill_between_two_blends_loses_nothing(copied: TrainConfig, done: TrainConfig) -> None:
    """The old model had made way, the new share was not written: either share can be asked for."""
    whole = weights(done.output)
    for share in (1.0, 0.5):
        shutil.rmtree(copied.output / run.TRAINED, ignore_errors=True)
        (copied.output / run.MODEL).rename(copied.output / run.TRAINED)
        run_pipeline(copied.changed(blend=share), resume=True)
        assert load_artifact(copied.output / "small").manifest.made["training"]["blend"] == share
        found = weights(copied.output)
        assert all(torch.equal(found[name], whole[name]) for name in whole) == (share == 1)


def test_a_run_whose_end_is_gone_keeps_its_blend(copied: TrainConfig) -> None:
    """It was made when only the share was kept: half of a half is not what was asked for."""
    half = copied.changed(blend=0.5)
    run.write_json(copied.output / run.CONFIG, half.saved())
    with pytest.raises(TrainingError, match=r"model: is 0\.5 of the way .*blend = 1"):
        run_pipeline(copied, resume=True)
    run.check(half, resume=True)
    assert {path.name for path in copied.output.iterdir()} == LEFT


def test_a_run_that_is_done_is_left_alone(copied: TrainConfig) -> None:
    """Resuming it changes nothing; it may still be installed, elsewhere, as often as one likes."""
    before = {path: path.stat().st_mtime_ns for path in copied.output.rglob("*") if path.is_file()}
    for _ in range(2):
        install = copied.output.parent / "encoders"
        run_pipeline(copied.model_copy(update={"install": None}), resume=True)
        installed = finish.install(copied.output / "small", install)
    after = {path: path.stat().st_mtime_ns for path in copied.output.rglob("*") if path.is_file()}
    assert before == after
    assert installed == install / "small"
    one, other = load_artifact(installed), load_artifact(copied.output / "small")
    assert one.fingerprint == other.fingerprint
    assert [path.name for path in install.iterdir()] == ["small"]


def test_an_installation_that_fails_leaves_nothing(
    done: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a disk that is full after two files; and what was installed before stays as it was."""
    installed = finish.install(done.output / "small", tmp_path / "encoders")
    written = []

    def full(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) > 2:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr("app.encoders.artifact._write", full)
    with pytest.raises(OSError, match="No space left"):
        finish.install(done.output / "small", tmp_path / "encoders")
    with pytest.raises(OSError, match="No space left"):
        finish.install(done.output / "small", tmp_path / "others")
    assert load_artifact(installed).manifest.name == "small"
    assert [path.name for path in (tmp_path / "encoders").iterdir()] == ["small"]
    assert list((tmp_path / "others").iterdir()) == []


def test_what_is_not_an_artifact_is_not_installed(done: TrainConfig, tmp_path: Path) -> None:
    """A folder with an altered file is refused, by name."""
    broken = tmp_path / "small"
    shutil.copytree(done.output / "small", broken)
    with (broken / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        finish.install(broken, tmp_path / "encoders")
    assert not (tmp_path / "encoders").exists()


def test_int8_that_loses_too_much_gives_way_to_fp32(
    copied: TrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The artifact is in fp32, that is said, and it is measured once."""
    for name in ("report.html", "small"):
        path = copied.output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def lost(_: dict[str, float], precision: str, largest: float) -> None:
        if precision == "int8":
            raise PrecisionLost(f"{precision} loses 2.00 points, more than the {largest:g} allowed")

    monkeypatch.setattr("training.export._ENOUGH_PAIRS", 1)
    monkeypatch.setattr("training.export._check_loss", lost)
    run_pipeline(copied, resume=True)
    said = "int8 loses 2.00 points, more than the 0.5 allowed; the artifact is written in fp32\n"
    assert said in capsys.readouterr().err
    assert load_artifact(copied.output / "small").manifest.precision == "fp32"
    evaluation = run.read_json(copied.output / run.EVALUATION)["encoders"]
    assert [encoder["role"] for encoder in evaluation] == ["base", "fp32"]


def test_an_encoder_that_tells_nothing_is_one_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Whose duplicates are less alike than its other pairs: no calibration, no artifact."""
    turned = [(left, right, 1 - label) for left, right, label in questions()]
    dev = write_pairs(
        tmp_path / "asked.tsv", [(f"{a} today", f"{b} today", c) for a, b, c in turned]
    )
    chosen = config(tmp_path, tiny_model_folder, dev=(dev,))
    with pytest.raises(TrainingError, match="asked: the encoder cannot be calibrated on its 128"):
        run_pipeline(chosen)
    assert not (chosen.output / "small").exists()


def test_retrieval_and_further_encoders_are_measured(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    """Among the texts of a corpus, beside another model; a packed file is read too."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"what is a {word}" for word in "abcdefgh"))
    pairs = tmp_path / "packed.tsv.gz"
    pairs.write_bytes(gzip.compress(write_pairs(tmp_path / "plain.tsv").read_bytes()))
    chosen = config(
        tmp_path,
        tiny_model_folder,
        pairs=(pairs,),
        steps=4,
        corpus=(corpus,),
        beside=(str(tiny_model_folder),),
        precision="fp32",
        install=tmp_path / "encoders",
    )
    run_pipeline(chosen)
    encoders = run.read_json(chosen.output / run.EVALUATION)["encoders"]
    assert [encoder["role"] for encoder in encoders] == ["base", "fp32", "reference"]
    assert all(set(one["sets"]) == {"held-out", "held-out natural retrieval"} for one in encoders)
    assert encoders[0]["sets"]["held-out"] == encoders[2]["sets"]["held-out"]
    assert load_artifact(tmp_path / "encoders" / "small").manifest.precision == "fp32"


def test_the_sample_trains_to_an_encoder_that_the_service_takes(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe of `make train`, shortened to one pass, from the true base to an answer."""
    output = tmp_path / "sample"
    status = main(["--config", str(SAMPLE), "--output", str(output), "--epochs", "1"])
    said = capsys.readouterr()
    assert status == 0, said.err
    artifact = output / read_config(SAMPLE, {"output": output}).name
    assert said.out.startswith(f"{artifact}: ready; serve it with DEJA_ENCODER={artifact}")
    answer = answers(
        serve,
        tmp_path,
        artifact,
        anchor="How do I reset the password of my account?",
        asked="I forgot my password, how can I get a new one?",
    )
    assert [match["id"] for match in answer["matches"]] == ["known"]
    assert (output / run.REPORT).stat().st_size > 50_000
