"""A calibration turns similarities into probabilities, and aims into measured cut-offs."""

import json
import math

import pytest

from app.domain.calibration import Calibration, CalibrationError, CutOff, CutOffs

TABLE = (
    CutOff(probability=0.1, similarity=0.58, precision=0.50, recall=0.99),
    CutOff(probability=0.3, similarity=0.71, precision=0.81, recall=0.96),
    CutOff(probability=0.5, similarity=0.80, precision=0.70, recall=0.80),
    CutOff(probability=0.7, similarity=0.88, precision=0.85, recall=0.50),
    CutOff(probability=0.9, similarity=0.97, precision=0.92, recall=0.10),
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


def test_similarity_undoes_probability() -> None:
    """The similarity of a probability has that probability."""
    assert CALIBRATION.similarity(CALIBRATION.probability(0.42)) == pytest.approx(0.42)


def test_a_lucky_row_below_a_worse_one_is_not_enough() -> None:
    """0.81 is measured at 0.3 and 0.70 above it, so the cut-off for 0.80 is 0.7, not 0.3."""
    assert CALIBRATION.cut_offs() == CutOffs(duplicate_at=0.7, review_at=0.3)


def test_review_is_the_strictest_row_with_the_recall() -> None:
    """Recall 0.8 is still measured at 0.5, the strictest such row."""
    assert CALIBRATION.cut_offs(review_recall=0.8).review_at == 0.5


def test_an_aim_out_of_reach_takes_the_nearest_row_and_says_so() -> None:
    """No row has precision 0.95 or recall 1: the strictest and the lowest stand in."""
    found = CALIBRATION.cut_offs(duplicate_precision=0.95, review_recall=1.0)
    assert found == CutOffs(0.9, 0.1, duplicate_reached=False, review_reached=False)


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
        ({"format": 2}, "format must be 1, not 2"),
        ({"kind": "isotonic"}, "kind must be 'logistic', not 'isotonic'"),
        ({"coefficients": []}, "coefficients must be an object"),
        ({"coefficients": {"similarity": 1.0}}, "coefficients.intercept must be a number"),
        (
            {"coefficients": {"intercept": 0, "similarity": 1, "negation": 2}},
            "coefficients.negation is not a term this version knows",
        ),
        ({"coefficients": {"intercept": 0, "similarity": -1}}, "coefficients.similarity must be"),
        ({"base_rate": "0.4"}, "base_rate must be a number, not '0.4'"),
        ({"base_rate": 1}, "base_rate must be between 0 and 1"),
        ({"population": ""}, "population must be a text"),
        ({"pairs": 0}, "pairs must be a whole number above 0"),
        ({"table": []}, "table must have at least one row"),
        ({"table": [7]}, r"table\[0\] must be an object"),
        (
            {"table": [{"probability": 0.1, "similarity": 0.5, "precision": 1.5, "recall": 0.5}]},
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
