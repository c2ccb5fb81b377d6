"""`python -m training.refit`: a whole artifact with a probability fitted afresh."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scipy.special import expit

from app.domain.calibration import Calibration, CalibrationError
from app.domain.evidence.pair import NAMES
from app.domain.labels import FALLBACK
from app.domain.scoring import Scorer
from app.encoders.artifact import (
    CARD,
    HEAD,
    MODEL,
    SHIPPED,
    Artifact,
    load_artifact,
    write_artifact,
)
from app.encoders.head import head_of
from app.encoders.unknown import unknown_to
from training.calibrate_labels import with_labels
from training.card import model_card
from training.data import read_natural_pairs
from training.evidence_prior import PRIOR
from training.known import KINDS, Known, crossed, figures, fits_of
from training.refit import Refit, main, refit

SAMPLE = Path(__file__).parents[2] / "training/sample/pairs.tsv"
BASE = load_artifact(SHIPPED / "all-minilm-l6-v2")
# It has a head.
TUNED = load_artifact(SHIPPED / "deja-en-1")


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Return the base with a head that learned the sample's labels on texts that are not its."""
    folder = tmp_path_factory.mktemp("headed")
    lines = SAMPLE.read_text("utf-8").splitlines()
    unlike = [f"Look: {line}".replace("\t", "\tLook: ", 1) for line in lines[1:]]
    other = folder / "other.tsv"
    other.write_text("\n".join([lines[0], *unlike]) + "\n", "utf-8")
    return refit(BASE, folder / "headed", pairs=SAMPLE, train=other, fewest=1, terms="For study.")


def backwards(artifact: Artifact, path: Path) -> Artifact:
    """Return the artifact with a head that says the opposite."""
    files = {name: (artifact.path / name).read_bytes() for name in artifact.manifest.files}
    graph = onnx.load_model_from_string(files[HEAD])
    for constant in graph.graph.initializer:
        if constant.name == "out16":
            opposite = -numpy_helper.to_array(constant)
            constant.CopyFrom(numpy_helper.from_array(opposite, constant.name))
    files[HEAD] = graph.SerializeToString(deterministic=True)
    return write_artifact(path, artifact.manifest, files)


def test_a_refit_writes_a_whole_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same encoder, another probability, its figures in the manifest and in the card."""
    found = refit(
        BASE, tmp_path / "fresh", pairs=SAMPLE, train=SAMPLE, population="the sample", fewest=1
    )
    assert (found.path / MODEL).read_bytes() == (BASE.path / MODEL).read_bytes()
    assert found.calibration.population == "the sample"
    held_out = found.manifest.metrics["held_out"]
    assert list(held_out) == ["pairs"]
    assert held_out["pairs"]["pairs"] == found.calibration.pairs
    written = (found.path / CARD).read_text("utf-8")
    assert written == model_card(found.manifest, found.calibration)
    shown = capsys.readouterr().out
    assert "0 pairs are too few for a head" in shown  # those to train on are those held out
    assert "pairs, each half by a fit on the other" in shown
    assert "duplicate at" in shown
    assert load_artifact(found.path).fingerprint == found.fingerprint


def test_a_trained_head_replaces_the_one_there(headed: Artifact) -> None:
    """It comes with its weight, and the service finds it."""
    assert headed.calibration.head > 0
    assert headed.manifest.made["head"]["hidden"] == 128
    assert headed.manifest.made["head"]["pairs"] == 489
    assert (headed.path / HEAD).read_bytes() != (TUNED.path / HEAD).read_bytes()
    assert head_of(headed) is not None


def test_what_is_not_fitted_stays(headed: Artifact, tmp_path: Path) -> None:
    """The head without --train, and one-shot labels with their figures."""
    own = replace(FALLBACK, weights=replace(FALLBACK.weights, sharpness=11.0), texts=7)
    files = {name: (headed.path / name).read_bytes() for name in headed.manifest.files}
    before = write_artifact(tmp_path / "before", headed.manifest, files)
    figures = {"set": "x", "anchors": 1, "accuracy": 0.5, "auroc": 0.625}
    before = with_labels(before, own, [figures])
    found = refit(before, tmp_path / "after", pairs=SAMPLE)
    assert found.calibration == replace(headed.calibration, population="pairs.tsv")
    assert (found.path / HEAD).read_bytes() == files[HEAD]
    assert found.manifest.made["head"] == headed.manifest.made["head"]
    assert found.labels == own
    assert found.manifest.metrics["labels"] == [figures]
    assert "| x | 50.0 | 62.5 |" in (found.path / CARD).read_text("utf-8")


def test_terms_stay_with_what_they_bind(headed: Artifact, tmp_path: Path) -> None:
    """A head that stays keeps its own, whatever those of the new fit; the encoder's stay too."""
    assert headed.manifest.made["head"]["terms"] == "For study."
    assert headed.manifest.made["calibrated_on"]["terms"] == "For study."
    made = {**headed.manifest.made, "terms": "The encoder's."}
    before = replace(headed, manifest=headed.manifest.model_copy(update={"made": made}))
    output = tmp_path / "after"
    found = refit(before, output, pairs=SAMPLE, terms="Free.")
    assert found.manifest.made["head"]["terms"] == "For study."
    assert found.manifest.made["calibrated_on"]["terms"] == "Free."
    assert found.manifest.made["terms"] == "The encoder's."
    written = (found.path / CARD).read_text("utf-8")
    assert "| probabilities (`calibration.json`) | Free. |\n| `head.onnx` | For study. |" in written


def test_a_head_that_does_not_help_is_left_out(headed: Artifact, tmp_path: Path) -> None:
    """The rest is fitted without it."""
    found = refit(backwards(headed, tmp_path / "before"), tmp_path / "after", pairs=SAMPLE)
    assert found.calibration.head == 0.0
    assert HEAD not in found.manifest.files
    assert "head" not in found.manifest.made


@pytest.mark.parametrize("which", ["head", "encoder"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_files_that_were_trained_on_are_not_measured_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str, *, elsewhere: bool
) -> None:
    """By the hash that the manifest keeps of them; before the work, and nothing is written."""
    other = tmp_path / "other.tsv"
    other.write_text("text1\ttext2\tlabel\na\tb\t1\nc\td\t0\ne\tf\t1\ng\th\t0\n", "utf-8")
    digest = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    learned = {
        "head": {"head": {**TUNED.manifest.made["head"], "sha256": digest}},
        "encoder": {"trained_on": {"files": [{"path": "x.tsv", "sha256": digest}]}},
    }
    manifest = TUNED.manifest.model_copy(update={"made": {**TUNED.manifest.made, **learned[which]}})
    files = {name: (TUNED.path / name).read_bytes() for name in TUNED.manifest.files}
    before = write_artifact(tmp_path / "before", manifest, files)
    flags = ["--pairs", str(SAMPLE)]
    if elsewhere:
        flags = ["--pairs", str(other), "--elsewhere", str(SAMPLE)]
    output = tmp_path / "after"
    assert main([str(before.path), *flags, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert f"pairs: the artifact's {which} was trained on this very file" in error
    assert "give pairs that were held out of training" in error
    assert ("--no-head" in error) is (which == "head")
    assert not output.exists()


def test_without_its_head_what_that_was_trained_on_can_be_measured(
    headed: Artifact, tmp_path: Path
) -> None:
    """And head and its story are gone from the artifact."""
    digest = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    made = {**headed.manifest.made, "head": {**headed.manifest.made["head"], "sha256": digest}}
    files = {name: (headed.path / name).read_bytes() for name in headed.manifest.files}
    manifest = headed.manifest.model_copy(update={"made": made})
    before = write_artifact(tmp_path / "before", manifest, files)
    output = tmp_path / "after"
    flags = ["--pairs", str(SAMPLE), "--no-head", "--output", str(output)]
    assert main([str(before.path), *flags]) == 0
    found = load_artifact(output)
    assert found.calibration.head == 0.0
    assert HEAD not in found.manifest.files
    assert "head" not in found.manifest.made
    assert found.manifest.made["measured_on"] == {"pairs": digest}


def test_figures_of_other_pairs_do_not_stay(tmp_path: Path) -> None:
    """The population is named after the file, and what fp32 had on other pairs is gone."""
    found = refit(BASE, tmp_path / "fresh", pairs=SAMPLE)
    metrics = found.manifest.metrics
    own = metrics["held_out"]["pairs"]
    assert found.calibration.population == "pairs.tsv"
    assert metrics["average_precision"] == {
        "int8": own["ap_similarity"],
        "probability": own["ap_probability"],
    }
    assert "cosine_to_fp32" not in metrics
    assert metrics["log_loss"] == own["log_loss"]


def test_figures_of_the_same_pairs_stay(tmp_path: Path) -> None:
    """What fp32 had on them is true after another fit as well."""
    once = refit(BASE, tmp_path / "once", pairs=SAMPLE)
    known = {**once.manifest.metrics["average_precision"], "fp32": 0.9}
    metrics = {
        **once.manifest.metrics,
        "average_precision": known,
        "cosine_to_fp32": {"mean": 1.0, "min": 0.9},
    }
    again = replace(once, manifest=once.manifest.model_copy(update={"metrics": metrics}))
    found = refit(again, tmp_path / "again", pairs=SAMPLE)
    assert found.manifest.metrics["average_precision"] == known
    assert found.manifest.metrics["cosine_to_fp32"] == {"mean": 1.0, "min": 0.9}


def test_the_service_scores_pairs_as_the_fit_saw_them(tmp_path: Path) -> None:
    """One module of evidence, one head, one sum: log odds agree to 1e-6.

    Also where words are too long for the tokenizer, or nothing is left of a text.
    """
    lines = [
        SAMPLE.read_text("utf-8").rstrip(),
        f"What is {'ab' * 64}?\tWhat is {'cd' * 64}?\t0",
        f"{'x' * 100} and more\t{'y' * 101} and more\t0",
        "\x07\x08\t\x05\x06\t0",
    ]
    file = tmp_path / "odd.tsv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    pairs = read_natural_pairs(file)
    assert len(pairs) == 489 + 3
    made = Refit(TUNED, threads=1)
    known = made.know(pairs)
    assert known.scores is not None
    calibration: Calibration = known.fit("+ both", "the sample")
    scorer = Scorer(calibration, None, unknown_to(TUNED))
    served = [
        scorer.of_pair(pairs.texts[left], pairs.texts[right], similarity, score)
        for left, right, similarity, score in zip(
            pairs.left.tolist(),
            pairs.right.tolist(),
            known.similarities.tolist(),
            known.scores.tolist(),
            strict=True,
        )
    ]
    assert served == pytest.approx(known.log_odds(calibration).tolist(), abs=1e-6)
    assert known.evidence[-3:, NAMES.index("unknown")].min() > 0


def test_a_kind_without_a_fit_is_passed_over() -> None:
    """Similarity alone points the wrong way; with the evidence, it does not."""
    rng = np.random.default_rng(4)
    count = 20_000
    evidence = np.zeros((count, len(NAMES)))
    evidence[:, 0] = rng.random(count) < 0.5
    cosines = 0.3 + 0.2 * evidence[:, 0] + rng.uniform(0, 0.2, count)
    log_odds = -1 + 4 * cosines + PRIOR["negation"] * evidence[:, 0]
    labels = rng.random(count) < expit(log_odds)
    parts = [
        Known(cosines[some], evidence[some], None, labels[some])
        for some in (slice(0, count // 2), slice(count // 2, count))
    ]
    assert list(fits_of(parts, "drawn")) == ["+ evidence"]
    with pytest.raises(CalibrationError, match="must be above 0"):
        fits_of(
            [
                replace(
                    part,
                    similarities=-part.similarities,
                    evidence=0 * part.evidence,
                    labels=part.similarities > 0.4,
                )
                for part in parts
            ],
            "drawn",
        )


def test_crossed_log_odds_come_from_the_other_part() -> None:
    """Each part by the fit on the other one, in the order of the parts."""
    rng = np.random.default_rng(1)

    def part(slope: float) -> Known:
        cosines = rng.uniform(0, 1, 500)
        labels = rng.random(500) < 1 / (1 + np.exp(-slope * (cosines - 0.5)))
        return Known(cosines, np.zeros((500, 10)), None, labels)

    one, other = part(4.0), part(12.0)
    kind = next(iter(KINDS))
    found = crossed([one, other], kind)
    assert found[:500] == pytest.approx(one.log_odds(other.fit(kind, "other")))
    assert found[500:] == pytest.approx(other.log_odds(one.fit(kind, "one")))
    assert figures(other.similarities, found[500:], other.labels)["pairs"] == 500


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit status 1, nothing written."""
    output = tmp_path / "none"
    status = main([BASE.path.name, "--pairs", str(tmp_path / "gone.tsv"), "--output", str(output)])
    assert status == 1
    assert "gone.tsv" in capsys.readouterr().err
    assert not output.exists()


def test_a_name_that_is_none_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what stands there stays."""
    output = tmp_path / "not a name"
    output.mkdir()
    assert main([str(BASE.path), "--pairs", "gone.tsv", "--output", str(output)]) == 1
    assert "an artifact is named like its folder" in capsys.readouterr().err
    assert output.is_dir()


def test_a_place_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, as for a disk that is full."""
    (tmp_path / "file").write_text("no folder")
    output = tmp_path / "file" / "fresh"
    assert main([str(BASE.path), "--pairs", str(SAMPLE), "--output", str(output)]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno")
