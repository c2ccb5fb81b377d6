"""Both towers are one encoder: what it says of a text does not depend on the texts beside it."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from training.towers import embed

TEXTS = ["a", "how old are you?", "the quick brown fox", "x" * 40, "what is your age", "b c"] * 9


def tokenised(model: SentenceTransformer, texts: list[str]) -> dict[str, torch.Tensor]:
    """Return texts as sentence-transformers' collator has them."""
    features: dict[str, torch.Tensor] = model.preprocess(texts)
    return features


def test_each_text_gets_the_vector_that_it_gets_alone(tiny_model: SentenceTransformer) -> None:
    """Over several columns of several lengths, in the order given, to 1e-5."""
    tiny_model.eval()
    first, second = TEXTS[:37], TEXTS[37:]
    with torch.no_grad():
        found = embed(tiny_model, [tokenised(tiny_model, first), tokenised(tiny_model, second)])
    assert [len(column) for column in found] == [37, 17]
    alone = np.concatenate([tiny_model.encode([text], normalize_embeddings=True) for text in TEXTS])
    np.testing.assert_allclose(torch.cat(found).numpy(), alone, atol=1e-5)


def test_short_texts_are_not_padded_to_the_longest(
    tiny_model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of a batch of questions would be padding; calls go by length."""
    widths = []
    forward = tiny_model.forward

    def counted(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        widths.append(features["input_ids"].shape[1])
        found: dict[str, torch.Tensor] = forward(features)
        return found

    monkeypatch.setattr(tiny_model, "forward", counted)
    embed(tiny_model, [tokenised(tiny_model, ["a"] * 63 + ["x" * 40])])
    assert widths == [3, 3, 3, 32]


def test_vectors_are_of_unit_length_and_carry_gradients(tiny_model: SentenceTransformer) -> None:
    """Both towers teach the same weights."""
    left, right = embed(tiny_model, [tokenised(tiny_model, ["a b"]), tokenised(tiny_model, ["c"])])
    torch.testing.assert_close(left.norm(dim=1), torch.ones(1))
    tiny_model.zero_grad()
    (left @ right.T).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in tiny_model.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    tiny_model.zero_grad()
