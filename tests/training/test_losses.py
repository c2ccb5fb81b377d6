"""Each loss against NumPy written from its formula, its gradient, and inside a trainer."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import Tensor

from training.losses import make_loss
from training.triplets import (
    Closest,
    closest_negatives,
    in_batch_softmax,
    l_closest,
    l_mean,
    l_original,
    mean_negatives,
    pair_ranking,
)

ALPHA, SCALE = 0.25, 20.0
NAMES = ("original", "mean_negative", "closest_negative", "full", "softmax")
# Two texts of a row ask the same thing; rows 0 and 3 are of one group.
ANCHORS = ["how old are you", "open a tin", "where is the moon", "your age please"]
POSITIVES = ["what is your age", "get a can open", "moon position", "tell me your age"]
NEGATIVES = ["how tall are you", "", "where is the sun", "your name please"]
LABELS = [[1, 9], [2, -1], [3, 7], [1, 8]]


def closest_of(row: Sequence[float], positive: float, closest: str) -> float:
    """Return the closest negative of a row, in DESIGN's words."""
    below = [value for value in row if value < positive]
    if closest == "hardest":
        return max(row)
    return max(below) if below else min(row)


def from_formula(
    name: str, similarities: NDArray[Any], negative: NDArray[Any], closest: str = "hardest"
) -> list[float]:
    """Return a loss of each row, written out."""
    values = []
    for i, row in enumerate(similarities.tolist()):
        positive = row[i]
        others = [value for j, value in enumerate(row) if negative[i, j]]
        if not others:
            values.append(0.0)
            continue
        l1 = max(sum(others) / len(others) - positive + ALPHA, 0)
        l2 = max(closest_of(others, positive, closest) - positive + ALPHA, 0)
        odds = sum(math.exp(SCALE * value) for value in [positive, *others])
        softmax = -math.log(math.exp(SCALE * positive) / odds)
        values.append(
            {"mean_negative": l1, "closest_negative": l2, "full": l1 + l2, "softmax": softmax}[name]
        )
    return values


def drawn(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    similarities = torch.from_numpy(rng.uniform(-1, 1, (rows, columns)))
    negative = torch.from_numpy(rng.random((rows, columns)) < 0.6)
    negative.fill_diagonal_(False)
    return similarities, negative


FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Closest], Tensor]] = {
    "mean_negative": lambda s, n, _: l_mean(s, n, ALPHA),
    "closest_negative": lambda s, n, c: l_closest(s, n, ALPHA, c),
    "full": lambda s, n, c: l_mean(s, n, ALPHA) + l_closest(s, n, ALPHA, c),
    "softmax": lambda s, n, _: in_batch_softmax(s, n, SCALE),
}


@pytest.mark.parametrize("closest", ["hardest", "semi-hard"])
@pytest.mark.parametrize("name", FUNCTIONS)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 10**6))
@settings(max_examples=60)
def test_every_row_is_what_the_formula_gives(
    name: str, closest: Closest, rows: int, more: int, seed: int
) -> None:
    """For any similarities and any choice of negatives; a row without one gives 0."""
    similarities, negative = drawn(rows, rows + more, seed)
    expected = from_formula(name, similarities.numpy(), negative.numpy(), closest)
    found = FUNCTIONS[name](similarities, negative, closest)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("closest", ["hardest", "semi-hard"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_gradient_is_that_of_the_value(name: str, closest: Closest) -> None:
    """Of every loss, by finite differences in float64, a row without negatives included."""
    similarities, negative = drawn(5, 8, 3)
    negative[2] = False
    similarities.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: FUNCTIONS[name](s, negative, closest), similarities)


def test_the_two_readings_of_the_closest_negative() -> None:
    """Semi-hard is the largest below the positive, and the smallest above where none is below."""
    similarities = torch.tensor([[0.5, 0.7, 0.4, 0.1], [0.8, 0.2, 0.6, 0.9]])
    negative = torch.tensor([[False, True, True, True], [True, False, True, True]])
    hardest = closest_negatives(similarities, negative, "hardest")
    semi_hard = closest_negatives(similarities, negative, "semi-hard")
    torch.testing.assert_close(hardest, torch.tensor([0.7, 0.9]))
    torch.testing.assert_close(semi_hard, torch.tensor([0.4, 0.6]))
    torch.testing.assert_close(mean_negatives(similarities, negative), torch.tensor([0.4, 2.3 / 3]))


def test_l_original_by_hand() -> None:
    """max(s(A,N) - s(A,P) + alpha, 0), alpha 0 being the plain form; its gradient too."""
    positive = torch.tensor([0.9, 0.5], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([0.2, 0.6], dtype=torch.float64, requires_grad=True)
    for alpha, expected in ((0.0, [0.0, 0.1]), (0.8, [0.1, 0.9])):
        found = l_original(positive, negative, alpha).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda p, n: l_original(p, n, 0.25), (positive, negative))


def test_the_ranking_by_hand() -> None:
    """log(1 + sum exp(scale (negative - positive))) / scale over every pair of the two."""
    positive = torch.tensor([0.9, 0.5], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([0.2, 0.6, 0.7], dtype=torch.float64, requires_grad=True)
    differences = [n - p for p in (0.9, 0.5) for n in (0.2, 0.6, 0.7)]
    expected = math.log(1 + sum(math.exp(SCALE * each) for each in differences)) / SCALE
    found = pair_ranking(positive, negative, SCALE)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda p, n: pair_ranking(p, n, SCALE), (positive, negative))
    assert pair_ranking(positive, negative[:0], SCALE).item() == 0.0


@pytest.fixture
def tiny(tiny_model_folder: Path) -> SentenceTransformer:
    model = SentenceTransformer(str(tiny_model_folder), device="cpu")
    model.eval()
    return model


def cosines(model: SentenceTransformer, candidates: list[str]) -> NDArray[Any]:
    left, right = (
        np.asarray(model.encode(texts), dtype=np.float64) for texts in (ANCHORS, candidates)
    )
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    similarities: NDArray[Any] = left @ right.T
    return similarities


@pytest.mark.parametrize("closest", ["hardest", "semi-hard"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labelled_negatives_join_for_all_rows(
    tiny: SentenceTransformer, name: str, closest: Closest
) -> None:
    """Candidates are positives and negatives of all rows; those of the own group are none."""
    columns = [tiny.preprocess(texts) for texts in (ANCHORS, POSITIVES, NEGATIVES)]
    loss = make_loss(name, tiny, alpha=ALPHA, closest=closest, scale=SCALE)
    similarities = cosines(tiny, POSITIVES + NEGATIVES)
    of = [row[0] for row in LABELS] + [row[1] for row in LABELS]
    negative = np.array([[group not in (row[0], -1) for group in of] for row in LABELS])
    expected = float(np.mean(from_formula(name, similarities, negative, closest)))
    assert loss(columns, torch.tensor(LABELS)).item() == pytest.approx(expected, abs=1e-5)
    inside = [row[mask] for row, mask in zip(similarities, negative, strict=True)]
    assert loss.statistics == {
        "positive": pytest.approx(float(np.diag(similarities).mean()), abs=1e-5),
        "mean_negative": pytest.approx(float(np.mean([r.mean() for r in inside])), abs=1e-5),
        "closest_negative": pytest.approx(float(np.mean([r.max() for r in inside])), abs=1e-5),
    }


@pytest.mark.parametrize("labels", [None, torch.zeros(4)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_groups_every_other_row_is_a_negative(
    tiny: SentenceTransformer, name: str, labels: Tensor | None
) -> None:
    """As sentence-transformers calls a loss of its own: no labels, or ones that say nothing."""
    columns = [tiny.preprocess(texts) for texts in (ANCHORS, POSITIVES)]
    expected = float(np.mean(from_formula(name, cosines(tiny, POSITIVES), ~np.eye(4, dtype=bool))))
    loss = make_loss(name, tiny, alpha=ALPHA, scale=SCALE)
    assert loss(columns, labels).item() == pytest.approx(expected, abs=1e-5)


def test_l_original_takes_the_own_negative_or_the_next_row(tiny: SentenceTransformer) -> None:
    """Row 1 has no negative of its own, so it takes the positive of row 2."""
    columns = [tiny.preprocess(texts) for texts in (ANCHORS, POSITIVES, NEGATIVES)]
    similarities = cosines(tiny, POSITIVES + NEGATIVES)
    chosen = [4, 2, 6, 7]
    expected = [
        max(row[j] - row[i] + ALPHA, 0)
        for i, (row, j) in enumerate(zip(similarities, chosen, strict=True))
    ]
    loss = make_loss("original", tiny, alpha=ALPHA)
    found = loss(columns, torch.tensor(LABELS)).item()
    assert found == pytest.approx(float(np.mean(expected)), abs=1e-5)


def test_the_terms_of_l_full_can_be_weighed(tiny: SentenceTransformer) -> None:
    """Weights 2 and 0.5 give 2 L1 + 0.5 L2."""
    columns = [tiny.preprocess(texts) for texts in (ANCHORS, POSITIVES)]
    l1, l2 = (make_loss(name, tiny)(columns).item() for name in NAMES[1:3])
    full = make_loss("full", tiny, mean_weight=2.0, closest_weight=0.5)
    assert full(columns).item() == pytest.approx(2 * l1 + 0.5 * l2, abs=1e-6)


def test_the_ranking_joins_a_loss(tiny: SentenceTransformer) -> None:
    """Of labelled duplicates above each row's own non-duplicate; row 1 has none."""
    columns = [tiny.preprocess(texts) for texts in (ANCHORS, POSITIVES, NEGATIVES)]
    similarities = cosines(tiny, POSITIVES + NEGATIVES)
    apart = [similarities[row, 4 + row] for row in (0, 2, 3)]
    ranked = pair_ranking(
        torch.tensor(similarities.diagonal().copy()), torch.tensor(np.array(apart)), SCALE
    ).item()
    alone = make_loss("full", tiny)(columns, torch.tensor(LABELS)).item()
    loss = make_loss("full", tiny, ranking=0.5)
    assert loss(columns, torch.tensor(LABELS)).item() == pytest.approx(
        alone + 0.5 * ranked, abs=1e-5
    )
    assert loss.statistics["ranking"] == pytest.approx(ranked, abs=1e-5)
    # Rows without labelled negatives have nothing to be ranked above.
    pairs = make_loss("full", tiny, ranking=0.5)(columns[:2]).item()
    assert pairs == pytest.approx(make_loss("full", tiny)(columns[:2]).item(), abs=1e-6)


def test_an_unknown_loss_is_refused(tiny: SentenceTransformer) -> None:
    """The message names those there are."""
    with pytest.raises(ValueError, match="no loss 'triple'; there are original, mean_negative"):
        make_loss("triple", tiny)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_inside_sentence_transformers_trainer(
    tiny_model_folder: Path, tmp_path: Path, name: str
) -> None:
    """Thirty steps on four triplets bring each loss to less than half of what it was."""
    model = SentenceTransformer(str(tiny_model_folder), device="cpu")
    columns = [model.preprocess(texts) for texts in (ANCHORS[:3], POSITIVES[:3], NEGATIVES[:3])]
    loss = make_loss(name, model, alpha=0.5)
    model.eval()
    before = loss(columns).item()
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=30,
            per_device_train_batch_size=3,
            learning_rate=3e-3,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        ),
        train_dataset=Dataset.from_dict(
            {"anchor": ANCHORS[:3], "positive": POSITIVES[:3], "negative": NEGATIVES[:3]}
        ),
        loss=loss,
    )
    trainer.train()
    model.eval()
    assert loss(columns).item() < before / 2
