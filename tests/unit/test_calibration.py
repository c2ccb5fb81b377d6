"""A calibration turns similarities into probabilities, and aims into measured cut-offs."""

import json
import math
from dataclasses import replace

import pytest

from app.domain.calibration import (
    IDENTITY,
    Calibration,
    CalibrationError,
    Correction,
    CutOff,
    CutOffs,
    closeness_of,
    logistic,
    logit,
)
from app.domain.evidence.pair import NAMES
from app.domain.explanation import explain

TABLE = (
    CutOff(probability=0.1, precision=0.50, recall=0.99),
    CutOff(probability=0.3, precision=0.81, recall=0.96),
    CutOff(probability=0.5, precision=0.70, recall=0.80),
    CutOff(probability=0.7, precision=0.85, recall=0.50),
    CutOff(probability=0.9, precision=0.92, recall=0.10),
)
CALIBRATION = Calibration(
    intercept=-8.0,
    slope=10.0,
    base_rate=0.37,
    population="made-up pairs",
    pairs=100,
    cut_offs_table=TABLE,
)


def test_probability_is_the_logistic_of_the_similarity() -> None:
    """P = 1 / (1 + exp(8 - 10 s)): a half at 0.8, and 1 / (1 + e**-2) at 1."""
    assert CALIBRATION.probability(0.8) == pytest.approx(0.5, abs=1e-12)
    assert CALIBRATION.probability(1.0) == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-12)
    assert CALIBRATION.probability(-1.0) == pytest.approx(1 / (1 + math.exp(18)), rel=1e-12)


def test_probability_never_falls_as_similarity_rises() -> None:
    """Over -1..1 in steps of 0.001, every probability is at least the one before."""
    found = [CALIBRATION.probability(step / 1000) for step in range(-1000, 1001)]
    assert found == sorted(found)


def test_extreme_coefficients_do_not_overflow() -> None:
    """A slope of a million gives 0 and 1, not an error."""
    steep = Calibration(0.0, 1e6, 0.5, "made-up", 2, TABLE)
    assert steep.probability(1.0) == 1.0
    assert steep.probability(-1.0) == pytest.approx(0.0, abs=1e-300)


def test_a_lucky_row_below_a_worse_one_is_not_enough() -> None:
    """0.81 is measured at 0.3 and 0.70 above it, so the cut-off for 0.80 is 0.7, not 0.3."""
    assert CALIBRATION.cut_offs() == CutOffs(duplicate_at=0.7, review_at=0.3)


def test_review_is_the_strictest_row_with_the_recall() -> None:
    """Recall 0.8 is still measured at 0.5, the strictest such row."""
    assert CALIBRATION.cut_offs(review_recall=0.8).review_at == 0.5


def test_an_aim_out_of_reach_is_said() -> None:
    """No row has precision 0.95 or recall 1: a probability of 0.95 and the lowest row stand in."""
    found = CALIBRATION.cut_offs(duplicate_precision=0.95, review_recall=1.0)
    assert found == CutOffs(0.95, 0.1, duplicate_reached=False, review_reached=False)


def test_explicit_cut_offs_win_over_aims() -> None:
    """Given outright, both are taken as they are, rows or not."""
    found = CALIBRATION.cut_offs(
        duplicate_precision=0.99, duplicate_at=0.66, review_recall=0.99, review_at=0.22
    )
    assert found == CutOffs(0.66, 0.22)


def test_the_cut_off_from_an_aim_gives_way_where_they_cross() -> None:
    """`duplicate_at` is never below `review_at`; the explicit one stays."""
    assert CALIBRATION.cut_offs(duplicate_at=0.2) == CutOffs(0.2, 0.2)
    assert CALIBRATION.cut_offs(review_at=0.8) == CutOffs(0.8, 0.8)
    low = CALIBRATION.cut_offs(duplicate_precision=0.4, review_recall=0.9)
    assert low == CutOffs(duplicate_at=0.1, review_at=0.1)


def test_explicit_cut_offs_that_cross_are_refused() -> None:
    """Two explicit cut-offs in the wrong order are an error, not a guess."""
    with pytest.raises(CalibrationError, match=r"duplicate_at \(0.3\) must not be below review_at"):
        CALIBRATION.cut_offs(duplicate_at=0.3, review_at=0.4)


def test_the_row_of_a_probability_is_the_first_at_or_above_it() -> None:
    """0.3 has its own row, 0.31 the next one, and what is past the table its last."""
    assert CALIBRATION.at(0.3) == TABLE[1]
    assert CALIBRATION.at(0.31) == TABLE[2]
    assert CALIBRATION.at(0.99) == TABLE[4]


def test_json_gives_back_the_same_calibration() -> None:
    """What is written is what is read."""
    assert Calibration.from_json(json.loads(json.dumps(CALIBRATION.to_json()))) == CALIBRATION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format must be 1 or 2, not 3"),
        ({"kind": "isotonic"}, "kind must be 'logistic', not 'isotonic'"),
        ({"coefficients": []}, "coefficients must be an object"),
        ({"coefficients": {"similarity": 1.0}}, "coefficients.intercept must be a number"),
        (
            {"coefficients": {"intercept": 0, "similarity": 1, "negation": 2}},
            "coefficients.negation is not a term this version knows",
        ),
        ({"coefficients": {"intercept": 0, "similarity": -1}}, "coefficients.similarity must be"),
        (
            {"coefficients": {"intercept": 0, "similarity": 1, "evidence": {"mood": 1}}},
            "coefficients.evidence.mood is not a term this version knows",
        ),
        (
            {"coefficients": {"intercept": 0, "similarity": 1, "head": -1}},
            "coefficients.head must not be below 0",
        ),
        (
            {"coefficients": {"intercept": 0, "similarity": 1, "closeness": -1}},
            "coefficients.closeness must not be below 0",
        ),
        ({"base_rate": "0.4"}, "base_rate must be a number, not '0.4'"),
        ({"base_rate": 1}, "base_rate must be between 0 and 1"),
        ({"population": ""}, "population must be a text"),
        ({"pairs": 0}, "pairs must be a whole number above 0"),
        ({"table": []}, "table must have at least one row"),
        ({"table": [7]}, r"table\[0\] must be an object"),
        (
            {"table": [{"probability": 0.1, "precision": 1.5, "recall": 0.5}]},
            r"table\[0\].precision must be between 0 and 1, not 1.5",
        ),
        (
            {"table": [CALIBRATION.to_json()["table"][1], CALIBRATION.to_json()["table"][0]]},  # type: ignore[index]
            r"table\[1\] rows must rise",
        ),
    ],
)
def test_malformed_json_names_the_field(change: dict[str, object], message: str) -> None:
    """Each field that is missing, of another type or out of range is named."""
    with pytest.raises(CalibrationError, match=f"calibration: {message}"):
        Calibration.from_json(CALIBRATION.to_json() | change)


def test_a_correction_is_a_line_on_the_log_odds() -> None:
    """0.5 + 2 * 0.3 = 1.1; one after another, the later line goes over the earlier."""
    first, later = Correction(0.5, 2.0), Correction(-1.0, 0.5)
    assert first(0.3) == pytest.approx(1.1)
    assert first.then(later)(0.3) == pytest.approx(later(first(0.3)))
    assert IDENTITY(0.3) == 0.3


@pytest.mark.parametrize("wrong", [(0.0, 0.0), (0.0, -1.0), (math.inf, 1.0), (0.0, math.nan)])
def test_a_correction_keeps_the_order_of_pairs(wrong: tuple[float, float]) -> None:
    """A slope of 0 or below would turn the order round, and is refused."""
    with pytest.raises(CalibrationError, match="slope"):
        Correction(*wrong)


def test_a_base_rate_shifts_as_bayes_rule_says() -> None:
    """By hand: at 1 in 2 the odds are 4 to 1; at 1 in 5 the prior odds are a quarter, so 1 to 1."""
    shift = Correction.of_base_rate(0.5, 0.2)
    assert logistic(shift(logit(0.8))) == pytest.approx(0.5, abs=1e-12)
    assert Correction.of_base_rate(0.37, 0.37)(1.234) == pytest.approx(1.234)


def test_measured_rows_move_with_the_base_rate_exactly() -> None:
    """80 of 100 duplicates accepted, and 20 of 100 others; then with four times as many others.

    Precision falls from 80/100 to 80/160, recall stays, and the row's probability shifts likewise.
    """
    row = CutOff(probability=0.6, precision=0.8, recall=0.8)
    moved = row.corrected(Correction.of_base_rate(1 / 2, 1 / 5))
    assert moved.precision == pytest.approx(80 / 160)
    assert moved.recall == 0.8
    assert logit(moved.probability) == pytest.approx(logit(0.6) - math.log(4))


def test_rarer_duplicates_need_more_to_be_called_so() -> None:
    """At 1% duplicates no row has the precision of 0.80; who is called one is so by P >= 0.80.

    The strictest row lay at 0.9: there, P is now 0.13, and one pair in six is a duplicate.
    """
    found = CALIBRATION.cut_offs(correction=Correction.of_base_rate(0.37, 0.01))
    assert found.duplicate_at == 0.80
    assert not found.duplicate_reached
    worse = replace(CALIBRATION, cut_offs_table=(CutOff(0.9, precision=0.7, recall=0.1),))
    assert worse.cut_offs() == CutOffs(0.9, 0.9, duplicate_reached=False, review_reached=False)


def test_evidence_and_head_add_their_weights() -> None:
    """-8 + 10 * 0.9 - 2 * 0.5 + 0.5 * 3 = 1.5 in log odds."""
    known = replace(CALIBRATION, evidence={"negation": -2.0}, head=0.5)
    values = tuple(0.5 if name == "negation" else 0.0 for name in NAMES)
    assert known.log_odds(0.9, values, 3.0) == pytest.approx(1.5)
    assert known.probability(0.9, values, 3.0) == pytest.approx(logistic(1.5))
    assert known.most_evidence == 0.0
    assert Calibration.from_json(json.loads(json.dumps(known.to_json()))) == known


def test_closeness_is_steep_near_1_and_ends_there() -> None:
    """-log(1.02 - s): 3.912 at 1, no more beyond by rounding; weighed like any piece."""
    known = replace(CALIBRATION, closeness=0.5)
    assert closeness_of(1.0) == pytest.approx(3.912, abs=1e-3)
    assert closeness_of(1.0000001) == closeness_of(1.0)
    assert known.log_odds(0.92) - CALIBRATION.log_odds(0.92) == pytest.approx(0.5 * math.log(10))
    assert Calibration.from_json(json.loads(json.dumps(known.to_json()))) == known
    (piece,) = [
        piece
        for piece in explain(
            known,
            similarity=0.92,
            evidence=(0.0,) * len(NAMES),
            score=0.0,
            correction=IDENTITY,
            cut_offs=known.cut_offs(),
            same_text=False,
        ).pieces
        if piece.name == "closeness"
    ]
    assert piece.contribution == pytest.approx(0.5 * math.log(10))


def test_the_first_format_is_still_read() -> None:
    """It knew the similarity alone, and gave its cosine in every row of the table."""
    old = {
        "format": 1,
        "kind": "logistic",
        "coefficients": {"intercept": -8.0, "similarity": 10.0},
        "base_rate": 0.37,
        "population": "made-up pairs",
        "pairs": 100,
        "table": [
            {
                "probability": row.probability,
                "similarity": 0.5,
                "precision": row.precision,
                "recall": row.recall,
            }
            for row in TABLE
        ],
    }
    assert Calibration.from_json(old) == CALIBRATION


def test_the_first_format_has_no_evidence() -> None:
    """A term that format 1 did not have is refused rather than left out."""
    data = CALIBRATION.to_json() | {"format": 1}
    with pytest.raises(CalibrationError, match=r"coefficients\.closeness is not a term"):
        Calibration.from_json(data)
