"""Staying close: how far similarities are from a teacher's, by hand, and beside a loss."""

import pytest
import torch
from sentence_transformers import SentenceTransformer

from training.losses import make_loss
from training.stay_close import StayClose, distance

EYE = torch.eye(2)
# Two vectors at 60 degrees: a cosine of 0.5.
TILTED = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])


def test_the_distance_is_the_mean_squared_difference_of_similarities() -> None:
    """Cosines 0.5 against 0: 100 times 0.25. The diagonal, always 1, does not thin it out."""
    assert float(distance(TILTED, EYE, same_space=False)) == pytest.approx(25.0)


def test_in_the_same_space_vectors_have_a_place_to_stay_at() -> None:
    """Added: 5 times the mean of 1 - cosine, here of (0, 1 - sqrt(0.75))."""
    expected = 25.0 + 5 * (1 - 0.75**0.5) / 2
    assert float(distance(TILTED, EYE, same_space=True)) == pytest.approx(expected)
    turned = EYE.flip(0)
    assert float(distance(turned, EYE, same_space=False)) == 0.0
    assert float(distance(turned, EYE, same_space=True)) == pytest.approx(5.0)


def test_a_teacher_may_have_another_dimension() -> None:
    """Its similarities are what counts."""
    assert float(distance(EYE, torch.eye(3)[:2], same_space=False)) == 0.0


def test_the_last_column_adds_its_distance_to_the_loss(tiny_model: SentenceTransformer) -> None:
    """Weighted; nothing of it reaches the triplets, and both are in the statistics."""
    tiny_model.eval()
    columns = [
        tiny_model.preprocess(texts)
        for texts in (["how old are you", "who is it"], ["what is your age", "who are you"])
    ]
    unlabelled = tiny_model.preprocess(["red", "green", "blue sky"])
    teacher = torch.eye(3)
    loss = make_loss("full", tiny_model)
    labels = torch.tensor([[0, -1], [1, -1]])
    with torch.no_grad():
        main = loss([dict(column) for column in columns], labels)
        vectors = torch.nn.functional.normalize(
            torch.from_numpy(tiny_model.encode(["red", "green", "blue sky"])), dim=1
        )
        whole = StayClose(loss, tiny_model, weight=0.5, same_space=False)(
            [*columns, {**unlabelled, "teacher": teacher}], labels
        )
    expected = main + 0.5 * distance(vectors, teacher, same_space=False)
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-5)
    stay = StayClose(loss, tiny_model, weight=0.0, same_space=False)
    with torch.no_grad():
        stay([*columns, {**unlabelled, "teacher": teacher}], labels)
    assert set(stay.statistics) == {"positive", "mean_negative", "closest_negative", "away"}
