"""`python -m training.refit`: a whole artifact with a probability fitted afresh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.domain.calibration import Calibration
from app.domain.scoring import Scorer
from app.encoders.artifact import CARD, HEAD, MODEL, SHIPPED, load_artifact
from app.encoders.head import head_of
from app.encoders.unknown import unknown_to
from training.card import model_card
from training.data import read_natural_pairs
from training.known import KINDS, Known, crossed, figures
from training.refit import Refit, main, refit

SAMPLE = Path(__file__).parents[2] / "training/sample/pairs.tsv"
BASE = load_artifact(SHIPPED / "all-minilm-l6-v2")


def test_a_refit_writes_a_whole_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same encoder, another probability, its figures in the manifest and in the card."""
    found = refit(
        BASE, tmp_path / "fresh", pairs=SAMPLE, train=SAMPLE, population="the sample", fewest=1
    )
    assert (found.path / MODEL).read_bytes() == (BASE.path / MODEL).read_bytes()
    assert found.calibration.population == "the sample"
    assert found.calibration.head == 0.0  # the pairs to train on are those held out
    held_out = found.manifest.metrics["held_out"]
    assert list(held_out) == ["pairs"]
    assert held_out["pairs"]["pairs"] == found.calibration.pairs
    written = (found.path / CARD).read_text("utf-8")
    assert written == model_card(found.manifest, found.calibration)
    shown = capsys.readouterr().out
    assert "pairs, each half by a fit on the other" in shown
    assert "duplicate at" in shown
    assert load_artifact(found.path).fingerprint == found.fingerprint


def test_a_head_comes_with_its_weight(tmp_path: Path) -> None:
    """Trained on other pairs, it is in the artifact and the service finds it."""
    lines = SAMPLE.read_text("utf-8").splitlines()
    other = tmp_path / "other.tsv"
    unlike = [f"Look: {line}".replace("\t", "\tLook: ", 1) for line in lines[1:]]
    other.write_text("\n".join([lines[0], *unlike]) + "\n", "utf-8")
    found = refit(BASE, tmp_path / "headed", pairs=SAMPLE, train=other, fewest=1)
    assert HEAD in found.manifest.files
    assert found.manifest.made["head"]["hidden"] == 128
    head = head_of(found)
    assert (head is not None) == (found.calibration.head > 0)


def test_the_service_scores_pairs_as_the_fit_saw_them() -> None:
    """One module of evidence, one head, one sum: log odds agree to 1e-6."""
    pairs = read_natural_pairs(SAMPLE)
    made = Refit(BASE, threads=1)
    known = made.know(pairs)
    calibration: Calibration = known.fit(known.kinds()[-1], "the sample")
    scorer = Scorer(calibration, None, unknown_to(BASE))
    served = [
        scorer.of_pair(pairs.texts[left], pairs.texts[right], similarity, 0.0)
        for left, right, similarity in zip(
            pairs.left.tolist(), pairs.right.tolist(), known.similarities.tolist(), strict=True
        )
    ]
    assert served == pytest.approx(known.log_odds(calibration).tolist(), abs=1e-6)


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
