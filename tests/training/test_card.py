"""The model card: of the base as it is shipped, and of an encoder that was trained."""

from dataclasses import replace
from typing import Any

from app.domain.calibration import Calibration
from app.encoders.artifact import CARD, SHIPPED, Manifest, load_artifact
from tests.training import fake_run
from training.card import model_card
from training.card_calibration import calibration_section
from training.reporting.recipe import mean_of_runs

BESIDE = {
    "base": {"forum-dev": 0.7711, "shop-questions": 0.8914, "banking": 0.6561, "home": 0.6012},
    "fp32": {"forum-dev": 0.8064, "shop-questions": 0.8883, "banking": 0.6357, "home": 0.6054},
    "int8": {"forum-dev": 0.8051, "shop-questions": 0.8873, "banking": 0.635, "home": 0.6043},
    "reference": {"forum-dev": 0.8011, "shop-questions": 0.9154, "banking": 0.6951},
}


def card(
    config: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    beside: dict[str, dict[str, float]] | None = None,
) -> str:
    """Return the card of an invented encoder, with what training says of it."""
    chosen = fake_run.CONFIG if config is None else config
    made = {
        **fake_run.MANIFEST["made"],
        "training": chosen,
        "trained_on": fake_run.DATA if data is None else data,
        "terms": chosen.get("terms", ""),
    }
    metrics = {**fake_run.MANIFEST["metrics"], "beside": BESIDE if beside is None else beside}
    manifest = Manifest.model_validate({**fake_run.MANIFEST, "made": made, "metrics": metrics})
    return model_card(manifest, Calibration.from_json(fake_run.calibration()))


def test_the_card_of_the_shipped_base_is_the_committed_one() -> None:
    """Without training, the card is what it was, byte for byte."""
    shipped = load_artifact(SHIPPED / "all-minilm-l6-v2")
    written = (shipped.path / CARD).read_bytes()
    assert model_card(shipped.manifest, shipped.calibration).encode() == written


def test_the_card_says_what_it_was_trained_on() -> None:
    """Counts, files, what was left out, and the terms of the data."""
    found = card()
    assert (
        "98,733 pairs of duplicates, 40,369 labelled non-duplicates, 151,227 texts, 49,910 groups "
        "of duplicates, from\n\n| file | SHA-256 |\n|---|---|\n"
        f"| `data/forum-train.tsv.gz` | `{'a1' * 32}` |\n"
    ) in found
    assert "Left out: 3 blank, 41 self-pair, 19 contradiction." in found
    assert (
        "**Terms of the data:** The forum's texts are for non-commercial use; the rewrites are "
        "CC BY-SA 4.0. The licence above is that of the base model"
    ) in found


def test_the_card_says_what_it_gained_and_forgot() -> None:
    """The table before and after, and the losses of what is served once more as a limit."""
    found = card({**fake_run.CONFIG, "beside": ["../models/all-mpnet-base-v2"]})
    assert (
        "| set | base | fp32 | int8 | all-mpnet-base-v2 |\n|---|---:|---:|---:|---:|\n"
        "| forum-dev | 77.1 | 80.6 (+3.5) | 80.5 (+3.4) | 80.1 (+3.0) |\n"
    ) in found
    assert "| home | 60.1 | 60.5 (+0.4) | 60.4 (+0.3) | \N{EN DASH} |\n" in found
    assert (
        "it is worse than its base on shop-questions (-0.4 points), banking (-2.1 points)."
    ) in found


def test_the_card_says_of_which_runs_the_weights_are_the_mean() -> None:
    """With what is different in the others; of one run, how much of the way."""
    config = {"loss": "full", "seed": 1, "steps": 1500}
    runs = [config, {**config, "seed": 0, "steps": 1000, "threads": 1}]
    made_of = {"share": 0.8, "runs": runs}
    (words,) = mean_of_runs(made_of, {**config, "threads": 2})
    assert words == (
        "The weights are 80% of the way from the base to the mean of the ends of 2 runs: "
        "that of these settings, and one with seed 0, steps 1000."
    )
    twice = {**made_of, "runs": [*runs, config | {"population": "forum"}, config]}
    (words,) = mean_of_runs(twice, {**config, "population": ""})
    assert words.endswith(
        "to the mean of the ends of 2 runs: that of these settings (counted 3 times), and one with "
        "seed 0, steps 1000."
    )
    assert "mean of the ends of 2 runs" in mean_of_runs({"share": 1.0, "runs": [{}, {}]}, config)[0]
    one = {"share": 0.5, "runs": [config]}
    assert mean_of_runs(one, config) == [
        "The weights are 50% of the way from the base to the end of the run."
    ]
    assert mean_of_runs({}, config) == []


def test_a_card_without_losses_promises_nothing() -> None:
    """Where no set lost, the sets that were not measured are still named as a limit."""
    found = card(beside={"base": {"forum": 0.7}, "int8": {"forum": 0.71}})
    assert "of the sets above it lost on none, but others were not measured." in found


def test_the_card_says_how_it_was_trained_and_how_to_use_it() -> None:
    """Recipe, every setting, the service's setting, and the command for one's own data."""
    found = card()
    assert "- A batch holds 80 duplicate pairs, no two of one group" in found
    assert "| `mine_margin` | `0.05` |\n" in found
    assert "| `teacher` | none |\n" in found
    assert "`DEJA_ENCODER=forum-encoder`" in found
    assert (
        "deja-train --pairs MY-PAIRS.csv --output runs/mine --name my-encoder "
        "--base all-MiniLM-L6-v2 --loss full --alpha 0.25 --batch 80\n"
    ) in found
    assert "## Made again" not in found


def test_the_card_of_a_run_that_was_not_measured() -> None:
    """What is not known is said: figures, terms, files."""
    found = card({"base": "some-base"}, {}, {})
    assert "It was not measured beside its base: what it gained and lost is not known." in found
    assert "forgets others: how much, was not measured." in found
    assert "**Terms of the data:** not recorded." in found
    assert "Its counts were not recorded, from\n\nfiles not recorded." in found
    assert "From some-base, both sides of a pair through the same weights." in found


def test_names_cannot_break_a_table() -> None:
    """A bar or a line break in a setting stays inside its cell."""
    found = card({"terms": "a | b\n## c `d`"})
    assert "| `terms` | `a \\| b ## c 'd'` |\n" in found


def test_an_aim_that_was_not_reached_is_said() -> None:
    """The default cut-off is the nearest one then, not what it is meant to be."""
    reached = Calibration.from_json(fake_run.calibration())
    rows = tuple(replace(row, precision=0.7) for row in reached.cut_offs_table)
    found = calibration_section(replace(reached, cut_offs_table=rows), {}, {})
    assert found.endswith(
        "`duplicate` aims at a precision of 0.80, which no row of the table was measured to reach: "
        "the nearest row stands in.\n"
    )
    assert "aims at" not in calibration_section(reached, {}, {})


def test_the_card_says_how_far_apart_the_measured_pairs_are() -> None:
    """What was checked, what was chosen on them, and what nobody knows."""
    figures = {
        "pairs": 9,
        "duplicates": 0.5,
        "ap_similarity": 0.5,
        "ap_probability": 0.6,
        "accuracy": 0.7,
        "ece": 0.1,
    }
    metrics = {"held_out": {"ours": figures, "shop": figures}, "beside": {"base": {"ours": 0.5}}}
    made = {
        "head": {"sha256": "aa"},
        "trained_on": {"files": [{"path": "train.tsv", "sha256": "bb"}]},
        "measured_on": {"ours": "cc", "shop": "dd"},
    }
    calibration = Calibration.from_json(fake_run.calibration())
    found = calibration_section(calibration, metrics, made)
    assert (
        "Each half of `ours` is judged by the fit on the other, `shop` by the fit on both.\n"
        "Which pieces are weighed was chosen on `ours` too: that flatters it a little.\n"
        "The training may have chosen its checkpoint by `ours`.\n"
        "Checked by the files' SHA-256: neither encoder nor head was trained on `ours` and "
        "`shop`.\n"
        "Not known: whether they saw some of these pairs in another file, and what the base model "
        "had learned from.\n"
    ) in found
    assert "nothing was fitted on" not in found
    seen = calibration_section(calibration, metrics, {**made, "calibrated_on": {"sha256": "aa"}})
    assert seen == found  # what was measured on is told by `measured_on` where it is there
    del made["measured_on"]
    seen = calibration_section(calibration, metrics, {**made, "calibrated_on": {"sha256": "aa"}})
    assert "Encoder or head was trained on `ours`: its figures flatter.\n" in seen
    assert "Checked by" not in seen


def told_terms(made: dict[str, Any]) -> str:
    manifest = Manifest.model_validate(
        {**fake_run.MANIFEST, "made": {**fake_run.MANIFEST["made"], **made}}
    )
    return model_card(manifest, Calibration.from_json(fake_run.calibration()))


def test_the_card_says_under_which_terms_head_and_probabilities_are() -> None:
    """What they mean for a user, and the commands that leave them behind."""
    found = told_terms(
        {
            "head": {"sha256": "aa", "terms": "For | study\nonly."},
            "calibrated_on": {"terms": "CC BY-SA 4.0."},
        }
    )
    assert "| probabilities (`calibration.json`) | CC BY-SA 4.0. |\n" in found
    assert "| `head.onnx` | For \\| study only. |\n" in found
    assert "Terms of data may bind whoever uses or passes on what was learned from it." in found
    name = fake_run.MANIFEST["name"]
    assert (
        f"python -m training.refit {name} --pairs MY-PAIRS.csv --no-head --output my-{name}\n"
    ) in found
    assert "The encoder stays as it is, under its own licence." in found
    assert "deja-train" not in found


def test_a_trained_encoder_keeps_its_own_terms_beside() -> None:
    """A refit alone does not free it, and the card says what does."""
    found = told_terms(
        {
            "training": {"base": "some-base"},
            "terms": "Ours.",
            "calibrated_on": {"terms": "Theirs."},
        }
    )
    assert "**Terms of the data:** Ours." in found
    assert "| probabilities (`calibration.json`) | Theirs. |\n" in found
    assert "`head.onnx` |" not in found
    assert "to be free of those as well, train\none from its base with `deja-train`" in found


def test_terms_that_were_not_recorded_are_said_to_be_unknown() -> None:
    """Of a head whose data nobody named."""
    found = told_terms({"head": {"sha256": "aa"}, "calibrated_on": {"terms": "Ours."}})
    assert (
        "| `head.onnx` | not recorded; ask whoever gave the data before passing this on |" in found
    )
    assert "## Terms of what was fitted" not in told_terms({})


def test_the_card_says_how_well_labels_are_told() -> None:
    """Set by set, at each number of anchors; a card without figures has no such section."""
    rows = [
        {"set": name, "anchors": anchors, "accuracy": accuracy, "auroc": auroc}
        for name, anchors, accuracy, auroc in (
            ("bank", 1, 0.5203, 0.7242),
            ("bank", 3, 0.7046, 0.7838),
            ("bank", 5, 0.7646, 0.8207),
            ("home", 1, 0.5451, 0.7021),
        )
    ]
    manifest = Manifest.model_validate({**fake_run.MANIFEST, "metrics": {"labels": rows}})
    found = model_card(manifest, Calibration.from_json(fake_run.calibration()))
    dash = "\N{EN DASH}"
    assert (
        "| set | accuracy at 1 | accuracy at 3 | accuracy at 5 | AUROC at 1 | AUROC at 3 | "
        "AUROC at 5 |\n|---|---:|---:|---:|---:|---:|---:|\n"
        "| bank | 52.0 | 70.5 | 76.5 | 72.4 | 78.4 | 82.1 |\n"
        f"| home | 54.5 | {dash} | {dash} | 70.2 | {dash} | {dash} |\n\n## Limits\n"
    ) in found
    assert "## One-shot labels" not in told_terms({})
