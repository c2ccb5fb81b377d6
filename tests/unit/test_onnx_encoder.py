"""The shipped artifact, through the ONNX encoder."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ArtifactError
from app.encoders.artifact import MANIFEST, MODEL, SHIPPED, TOKENIZER, load_artifact
from app.encoders.onnx import OnnxEncoder, _calls, _fits_packed, _fits_padded
from app.encoders.unknown import unknown_to

ARTIFACT = SHIPPED / "all-minilm-l6-v2"
TEXTS = (
    "How old are you?",
    "What is your age?",
    "Where can I download last month's invoice?",
    "no",
    "My parcel has not arrived yet although the tracking page says that it was delivered",
    "Is it safe to eat raw eggs?",
    "¿Cómo puedo cambiar mi contraseña?",
    "How old were you then?",
)


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(load_artifact(ARTIFACT))


def test_it_describes_its_artifact(encoder: OnnxEncoder) -> None:
    """Name, dimension and limit come from the manifest; the fingerprint is the manifest's hash."""
    assert encoder.name == "all-minilm-l6-v2"
    assert encoder.dimension == 384
    assert encoder.max_tokens == 256
    manifest = (ARTIFACT / MANIFEST).read_bytes()
    assert encoder.fingerprint == hashlib.sha256(manifest).hexdigest()


def test_vectors_are_unit_float32(encoder: OnnxEncoder) -> None:
    """Every vector has length 1 to float32's accuracy."""
    vectors = encoder.encode(TEXTS).vectors
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_similarities_are_those_of_the_model(encoder: OnnxEncoder) -> None:
    """A paraphrase is close and another topic is not, as measured once with the fp32 model."""
    vectors = encoder.encode(TEXTS).vectors
    similarities = vectors @ vectors[0]
    assert similarities[1] == pytest.approx(0.761, abs=0.02)
    assert similarities[2] == pytest.approx(0.098, abs=0.02)


def test_a_vector_does_not_depend_on_its_batch(encoder: OnnxEncoder) -> None:
    """Alone, in a batch, in another order: the same vector, to 1e-6."""
    together = encoder.encode(TEXTS).vectors
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    backwards = encoder.encode(TEXTS[::-1]).vectors[::-1]
    many = encoder.encode(TEXTS * 40).vectors.reshape(40, len(TEXTS), 384)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(backwards, alone, atol=1e-6)
    np.testing.assert_allclose(many, np.broadcast_to(alone, many.shape), atol=1e-6)


@given(st.lists(st.integers(2, 256), max_size=80))
def test_packed_calls_are_as_large_as_pays(lengths: list[int]) -> None:
    """Each text is in one call; a shared one holds 512 tokens and 2,500 padded pairs at most."""
    calls = _calls(lengths, _fits_packed)
    assert sorted(place for call in calls for place in call) == list(range(len(lengths)))
    for call in calls:
        inside = [lengths[place] for place in call]
        padded = len(inside) * max(inside) ** 2 - sum(length**2 for length in inside)
        assert len(inside) == 1 or (sum(inside) <= 512 and padded <= 2_500)


def test_packed_calls_take_questions_of_mixed_lengths_together() -> None:
    """Questions of 5 to 16 tokens, as they come, are one call where padding would make three."""
    lengths = [5, 16, 9, 11, 7, 14, 10, 8, 12, 6]
    assert len(_calls(lengths, _fits_packed)) == 1
    assert len(_calls(lengths, _fits_padded)) == 3


def test_calls_of_a_graph_that_computes_padding_are_of_one_length() -> None:
    """Where padding costs as much as tokens, a text of twice the length has a call of its own."""
    assert _calls([10, 21, 13, 10], _fits_padded) == [[0, 3, 2], [1]]


def test_a_loud_batch_mate_changes_nothing(encoder: OnnxEncoder) -> None:
    """Next to the noise of another text of its length, a question keeps its vector."""
    words = ["zebra", "§", "Ω", "qwertyuiop", "0", "###", "http", "東京"]
    for word in words:
        pair = encoder.encode(["How old are you?", f"{word} {word} {word} {word} {word}"])
        np.testing.assert_allclose(
            pair.vectors[0], encoder.encode(["How old are you?"]).vectors[0], atol=1e-6
        )


def test_threads_share_one_encoder(encoder: OnnxEncoder) -> None:
    """Eight threads at once get what one gets."""
    expected = [encoder.encode([text]).vectors for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(lambda text: encoder.encode([text]).vectors, TEXTS))
            np.testing.assert_array_equal(found, expected)


def test_tokens_count_the_special_ones(encoder: OnnxEncoder) -> None:
    """Start, four words, a question mark, end."""
    encoded = encoder.encode(["How old are you?", ""])
    assert encoded.tokens == (7, 2)
    assert encoded.truncated == (False, False)


def test_only_what_does_not_fit_is_cut(encoder: OnnxEncoder) -> None:
    """254 words and two special tokens fit in 256; with one more word, the text is cut."""
    encoded = encoder.encode(["one " * 254, "one " * 255, "one " * 254 + "two", "hi"])
    assert encoded.tokens == (256, 256, 256, 3)
    assert encoded.truncated == (False, True, True, False)
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[2], atol=1e-6)


def test_no_texts_give_no_vectors(encoder: OnnxEncoder) -> None:
    """An empty request is answered with an empty matrix."""
    encoded = encoder.encode([])
    assert encoded.vectors.shape == (0, 384)
    assert encoded.tokens == ()
    assert encoded.truncated == ()


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
def test_a_file_the_libraries_cannot_read_is_named(tmp_path: Path, name: str) -> None:
    """A file that matches the manifest and still is no model or tokenizer is refused by name."""
    folder = tmp_path / "broken"
    shutil.copytree(ARTIFACT, folder)
    (folder / name).write_bytes(b"not what it should be")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(b"not what it should be").hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError) as caught:
        OnnxEncoder(load_artifact(folder))
    assert str(caught.value).startswith(f"{folder / name}: the ")


def test_a_model_of_another_dimension_is_refused(tmp_path: Path) -> None:
    """A manifest that promises 512 numbers does not load a model that gives 384."""
    folder = tmp_path / "wide"
    shutil.copytree(ARTIFACT, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"dimension": 512}))
    with pytest.raises(ArtifactError, match="has no output sentence_embedding of dimension 512"):
        OnnxEncoder(load_artifact(folder))


def test_words_without_a_piece_are_named() -> None:
    """They all become one token, so the text's vector does not tell them apart; known ones are not.

    Of a text that leaves no token at all, the whole is such a word.
    """
    unknown = unknown_to(load_artifact(ARTIFACT))
    assert unknown("Was heißt 🍕 auf Deutsch?") == {"🍕"}
    assert unknown("¿Cómo puedo cambiar mi contraseña?") == frozenset()
    assert unknown("ꦲꦏ and 🍉🍉") == {"ꦲꦏ", "🍉🍉"}
    assert unknown("\u200b ") == {"\u200b"}
    assert unknown(f"{'x' * 100} {'y' * 101}") == {"y" * 101}
    assert unknown(" \x07") == {"\x07"}
