"""Staying close: how far similarities are from a teacher's, by hand, and beside a loss."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from training.losses import make_loss
from training.stay_close import StayClose, beside, distance

EYE = torch.eye(2)
# Two vectors at 60 degrees: a cosine of 0.5.
TILTED = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])


def test_the_distance_is_of_similarities_and_of_vectors() -> None:
    """Cosines 0.5 against 0: 100 times 0.25. The diagonal, always 1, does not thin it out.

    Added: 5 times the mean of 1 - cosine, here of (0, 1 - sqrt(0.75)).
    """
    expected = 25.0 + 5 * (1 - 0.75**0.5) / 2
    assert float(distance(TILTED, EYE)) == pytest.approx(expected)
    assert float(distance(EYE.flip(0), EYE)) == pytest.approx(5.0)


def test_a_teacher_is_turned_into_the_space_of_the_base() -> None:
    """A teacher that is the base in other axes, and more of them, is the base again."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((200, 8)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    axes, _ = np.linalg.qr(rng.standard_normal((12, 8)))
    teacher = (base @ axes.T).astype(np.float32)
    np.testing.assert_allclose(beside(base, teacher, share=1.0), base, atol=1e-5)


def test_a_teacher_keeps_its_own_similarities_as_far_as_asked() -> None:
    """All of the teacher gives its cosines; a half of it lies half-way to the base's vectors."""
    rng = np.random.default_rng(1)
    both = rng.standard_normal((2, 50, 8)).astype(np.float32)
    base, teacher = both / np.linalg.norm(both, axis=2, keepdims=True)
    turned = beside(base, teacher, share=1.0)
    np.testing.assert_allclose(turned @ turned.T, teacher @ teacher.T, atol=1e-5)
    # No other turn of it, an unturned one least, lies as near.
    assert (turned * base).sum() > (teacher * base).sum()
    half = turned + base
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    np.testing.assert_allclose(beside(base, teacher, share=0.5), half, atol=1e-5)


def test_the_last_column_adds_its_distance_to_the_loss(tiny_model: SentenceTransformer) -> None:
    """Weighted; nothing of it reaches the triplets, and both are in the statistics."""
    tiny_model.eval()
    columns = [
        tiny_model.preprocess(texts)
        for texts in (["how old are you", "who is it"], ["what is your age", "who are you"])
    ]
    unlabelled = tiny_model.preprocess(["red", "green", "blue sky"])
    teacher = torch.nn.functional.normalize(torch.randn(3, 32), dim=1)
    loss = make_loss("full", tiny_model)
    labels = torch.tensor([[0, -1], [1, -1]])
    with torch.no_grad():
        main = loss([dict(column) for column in columns], labels)
        vectors = torch.nn.functional.normalize(
            torch.from_numpy(tiny_model.encode(["red", "green", "blue sky"])), dim=1
        )
        whole = StayClose(loss, tiny_model, weight=0.5)(
            [*columns, {**unlabelled, "teacher": teacher}], labels
        )
    expected = main + 0.5 * distance(vectors, teacher)
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-5)
    stay = StayClose(loss, tiny_model, weight=0.0)
    with torch.no_grad():
        stay([*columns, {**unlabelled, "teacher": teacher}], labels)
    assert set(stay.statistics) == {"positive", "mean_negative", "closest_negative", "away"}
