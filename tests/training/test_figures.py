"""What changed against the base, in figures and in words."""

from pathlib import Path

import pytest

from tests.training import fake_run
from training.config import TrainConfig
from training.reporting.figures import (
    BASE,
    FP32,
    INT8,
    REFERENCE,
    Figure,
    by_role,
    figures,
    row_outcome,
    run_outcome,
    sentence,
)
from training.reporting.recipe import recipe


def figure(dev_set: str, base: float, tuned: float) -> Figure:
    values = {BASE: base, INT8: tuned}
    return Figure(dev_set, "pairs", "average_precision", "average precision", True, values)


@pytest.mark.parametrize(
    ("others", "trained", "said"),
    [
        (
            {"shop": (0.9, 0.9012)},
            (0.7, 0.72),
            (
                "gained 2.0 points of average precision on forum (70.0% to 72.0%); it lost nothing "
                "on any other set (the least gain is 0.1, shop)"
            ),
        ),
        (
            {"shop": (0.9, 0.9003), "home": (0.6, 0.7)},
            (0.7, 0.6),
            (
                "made it worse on its own domain: 10.0 points of average precision lost on forum "
                "(70.0% to 60.0%); it lost nothing on any other set (shop fared worst, unchanged)"
            ),
        ),
        (
            {"shop": (0.9, 0.85), "home": (0.6, 0.59)},
            (0.7, 0.7004),
            (
                "changed nothing in average precision on forum (70.0% to 70.0%); its worst loss "
                "elsewhere is 5.0 points, average precision on shop"
            ),
        ),
        (
            {},
            (0.7, 0.71),
            (
                "gained 1.0 points of average precision on forum (70.0% to 71.0%); no other set "
                "was measured, so what it forgot is not known"
            ),
        ),
    ],
)
def test_the_sentence_is_honest(
    others: dict[str, tuple[float, float]], trained: tuple[float, float], said: str
) -> None:
    """A loss is called a loss, what stayed is called unchanged, what is not known is said."""
    measured = [figure("forum", *trained), *(figure(name, *pair) for name, pair in others.items())]
    found = run_outcome(measured, "forum", INT8)
    assert found is not None
    assert sentence(found, measured, INT8) == said


def test_encoders_are_known_by_role_name_and_order() -> None:
    """The reference by its name wherever it stands, a stated role first, the rest in order."""
    assert list(by_role([fake_run.BASE, fake_run.FP32, fake_run.REFERENCE])) == [
        BASE,
        FP32,
        REFERENCE,
    ]
    several = [{"name": name, "role": "reference"} for name in "xyz"]
    assert list(by_role([fake_run.BASE, fake_run.FP32, *several])) == [
        BASE,
        FP32,
        REFERENCE,
        "y",
        "z",
    ]
    roles = by_role(
        [fake_run.REFERENCE, {"name": "b", "role": "base"}, {"name": "a", "role": "int8"}]
    )
    assert {role: encoder["name"] for role, encoder in roles.items()} == {
        BASE: "b",
        INT8: "a",
        REFERENCE: "all-mpnet-base-v2",
    }


def test_a_comparison_row_has_a_gain_and_a_worst_loss() -> None:
    """Worked out by hand: 2 points gained, the worst of the others 5 lost."""
    row = {
        "sets": {"forum": 0.72, "shop": 0.9, "home": {"mean": 0.55, "std": 0.01}},
        "base": {"forum": 0.70, "shop": 0.9, "home": {"mean": 0.60, "std": 0.01}},
    }
    found = row_outcome(row, "forum")
    assert found is not None
    assert found.gain == pytest.approx(2)
    assert found.worst is not None
    assert found.worst[0] == "home"
    assert found.worst[1] == pytest.approx(-5)
    assert row_outcome({"sets": {"forum": 0.7}}, "forum") is None


def test_figures_that_no_encoder_has_are_left_out() -> None:
    """A set without 'none of these' has no row for it."""
    measured = figures(by_role([fake_run.BASE, fake_run.FP32]))
    keys = [item.key for item in measured if item.dev_set == "banking"]
    assert keys == ["accuracy"]


def test_the_recipe_in_words_knows_the_settings() -> None:
    """Written from the config that training saves, so that a renamed setting shows here."""
    config = TrainConfig(
        output=Path("run"),
        pairs=(Path("pairs.csv"),),
        loss="closest_negative",
        closest="semi-hard",
        mine=20,
        hard=0.25,
        unlabelled=Path("texts.txt"),
        blend=0.7,
        accumulate=2,
    ).model_dump(mode="json")
    assert recipe(config, steps=1200) == [
        (
            "Loss: L2 = max(closest negative - s(A,P) + alpha, 0); the closest negative is the "
            "most similar one below the positive; alpha = 0.25."
        ),
        (
            "1,200 steps; a batch holds 64 duplicate pairs, no two of one group of duplicates, "
            "2 batches a step."
        ),
        (
            "AdamW with a learning rate of 5e-05 after a warm-up over 10% of the steps, weight "
            "decay 0.01."
        ),
        "Labelled non-duplicates join the batch as negatives.",
        (
            "Negatives are mined once, before the first step from the 20 nearest texts of other "
            "groups, each at least 0.05 less similar than the positive."
        ),
        "25% of a batch is filled with neighbouring groups.",
        (
            "On 64 unlabelled texts a step it is held close to the vectors of its base (weight 1), "
            "so as to forget less."
        ),
        "The result is 70% of the tuned weights and the rest the base's.",
        "Seed 0.",
    ]


def test_the_recipe_tells_ranking_and_teacher() -> None:
    """With their weights and shares; a teacher alone is not mixed."""
    config = TrainConfig(
        output=Path("run"),
        pairs=(Path("pairs.csv"),),
        mean_weight=0.5,
        ranking=4.0,
        unlabelled=Path("texts.txt"),
        unlabelled_limit=24000,
        teacher="all-mpnet-base-v2",
        teacher_share=0.5,
    ).model_dump(mode="json")
    told = recipe(config)
    assert "L1 weighs 0.5, L2 1" in told[0]
    assert (
        "Beside it, every duplicate of a batch is ranked above every explicit non-duplicate "
        "(weight 4, scale 20)." in told
    )
    assert (
        "On 64 unlabelled texts a step out of 24,000 it is held close to the vectors of "
        "all-mpnet-base-v2, turned into its base's space, mixed 50% with its base's (weight 1), so "
        "as to forget less." in told
    )
    alone = recipe({**config, "teacher_share": 1.0})
    assert any("turned into its base's space (weight 1)" in sentence for sentence in alone)
