"""Whitening: what it does to vectors, and that every form of the model does the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from tests.training.conftest import WORDS
from training.errors import TrainingError
from training.export import export_model
from training.onnx_graph import export_graph
from training.packing import pack_tokens
from training.vectors import encode_rows, open_session
from training.weights import file_sha256, find_base
from training.whitening import FLOOR, matrix_of, put_matrix, whiten, whitening

TEXTS = [f"{a} {b} ?" for a in WORDS.split()[:12] for b in WORDS.split()[12:24]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def _stretched() -> NDArray[np.float32]:
    """Return unit vectors that differ much in some directions and little in others."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 8)) * [3, 2, 2, 2, 1.5, 1.5, 1.5, 1.5]
    vectors[:, 0] += 2
    return _unit(vectors.astype(np.float32))


def _variances(vectors: NDArray[np.float32]) -> NDArray[np.floating]:
    found: NDArray[np.floating] = np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64)))
    return found


def test_strength_is_how_much_of_the_unevenness_goes() -> None:
    """0 leaves the vectors, 0.5 makes every direction's variance the same."""
    vectors = _stretched()
    np.testing.assert_allclose(whitening(vectors, 0), np.eye(8), atol=1e-6)
    whole = _variances(vectors @ whitening(vectors, 0.5))
    np.testing.assert_allclose(whole / whole[0], 1, rtol=1e-4)
    half = _variances(vectors @ whitening(vectors, 0.25))
    before = _variances(vectors)
    assert before[0] > FLOOR * before.mean()
    np.testing.assert_allclose(half / half[0], np.sqrt(before / before[0]), rtol=1e-4)


def test_the_mean_square_of_the_lengths_stays_1() -> None:
    """So that numbers stay in the range that they had."""
    vectors = _stretched()
    for strength in (0.1, 0.3, 0.5):
        lengths = np.linalg.norm(vectors @ whitening(vectors, strength), axis=1)
        assert np.mean(lengths**2) == pytest.approx(1, abs=1e-5)


def test_a_direction_of_nothing_is_not_blown_up() -> None:
    """It is enlarged as one of FLOOR of the mean variance is, and no further."""
    vectors = _stretched()
    vectors[:, 7] *= 1e-6
    scales = np.linalg.eigvalsh(whitening(vectors, 0.25))
    variances = _variances(vectors)
    wanted = (variances[-1] / (FLOOR * variances.mean())) ** 0.25
    assert scales[-1] / scales[0] == pytest.approx(wanted, rel=1e-3)


def test_a_whitened_model_gives_its_base_s_vectors_times_the_matrix(
    tiny_model: SentenceTransformer, tmp_path: Path
) -> None:
    """Saved and loaded as any model; whitened again, it has the product of both."""
    before = tiny_model.encode(TEXTS, normalize_embeddings=True)
    whiten(tiny_model, TEXTS, 0.3)
    tiny_model.save(str(tmp_path / "model"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    once = again.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(once, _unit(before @ whitening(before, 0.3)), atol=1e-5)
    whiten(again, TEXTS, 0.2)
    twice = again.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(twice, _unit(once @ whitening(once, 0.2)), atol=1e-5)
    assert [type(module).__name__ for module in again] == ["Transformer", "Pooling", "Dense"]


def test_an_exported_graph_whitens(tiny_model: SentenceTransformer) -> None:
    """It has the model's vectors, which are not those of before."""
    plain = export_graph(tiny_model)
    whiten(tiny_model, TEXTS, 0.3)
    graph = export_graph(tiny_model)
    rows = [tiny_model.tokenizer(text)["input_ids"] for text in TEXTS]
    found = encode_rows(open_session(pack_tokens(graph)), rows, together=True)
    wanted = tiny_model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - encode_rows(open_session(plain), rows, together=True)).max() > 0.05


def test_int8_leaves_the_whitening_alone(tiny_model: SentenceTransformer, tmp_path: Path) -> None:
    """As many integer products as without it, one product more in all; and it has its effect."""
    texts = [tiny_model.tokenizer(text)["input_ids"] for text in TEXTS]

    def kinds(folder: Path) -> list[str]:
        tiny_model.save(str(folder), create_model_card=False)
        graph: onnx.ModelProto = export_model(str(folder)).int8
        return sorted(n.op_type for n in graph.graph.node if "MatMul" in n.op_type)

    plain = kinds(tmp_path / "plain")
    whiten(tiny_model, TEXTS, 0.3)
    assert kinds(tmp_path / "white") == sorted([*plain, "MatMul"])
    wanted = tiny_model.encode(TEXTS, normalize_embeddings=True)

    def cosine(name: str) -> float:
        session = open_session(export_model(str(tmp_path / name)).int8)
        found = encode_rows(session, texts, together=True)
        return float(np.einsum("ij,ij->i", found, wanted).mean())

    assert cosine("white") > 0.999
    assert cosine("plain") < 0.997


def test_the_weights_hash_tells_a_whitened_model_from_its_base(
    tiny_model: SentenceTransformer, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """The first file is the same in both; another strength has another hash."""
    hashes = []
    for strength in (0.1, 0.1):
        whiten(tiny_model, TEXTS, strength)
        tiny_model.save(str(tmp_path / "model"), create_model_card=False)
        hashes.append(find_base(str(tmp_path / "model")).sha256)
    first = file_sha256(tmp_path / "model" / "model.safetensors")
    assert first == find_base(str(tiny_model_folder)).sha256
    assert len({first, *hashes}) == 3


def test_what_cannot_be_whitened_is_refused(tiny_model: SentenceTransformer) -> None:
    """Too few texts for so many directions; a layer that does more than to multiply."""
    with pytest.raises(TrainingError, match=r"more texts than a vector has numbers \(32\), not 32"):
        whiten(tiny_model, TEXTS[:32], 0.2)
    for more in ({"bias": True}, {"activation_function": torch.nn.Tanh(), "bias": False}):
        model = SentenceTransformer(
            modules=[*list(tiny_model)[:2], Dense(32, 32, **more)], device="cpu"
        )
        for refused in (
            lambda model=model: put_matrix(model, torch.eye(32)),
            lambda model=model: export_graph(model),
        ):
            with pytest.raises(TrainingError, match="must be a product alone, without a bias"):
                refused()
    assert matrix_of(tiny_model) is None
