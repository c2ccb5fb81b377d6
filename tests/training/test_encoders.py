"""Artifacts and models give the vectors they give elsewhere, under one interface."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from app.domain.errors import ArtifactError
from app.encoders.artifact import SHIPPED, load_artifact
from app.encoders.onnx import OnnxEncoder
from training.encoders import ArtifactEncoder, from_model, load_encoder, state_sha256
from training.errors import TrainingError
from training.sample_texts import SAMPLE_TEXTS

ARTIFACT = SHIPPED / "all-minilm-l6-v2"
WORDS = ["how", "do", "i", "reset", "my", "password", "where", "is", "the", "parcel", "a"]
TEXTS = ["how do i reset my password", "parcel", "where is the parcel", "reset", "the the the"]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sentence-transformers model with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(5)
    BertModel(
        BertConfig(
            vocab_size=5 + len(WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=16,
        )
    ).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=16)
    model = SentenceTransformer(modules=[bert, Pooling(32)], device="cpu")
    model.save(str(folder / "tuned" / "model"), create_model_card=False)
    return folder / "tuned" / "model"


@pytest.fixture
def tiny(tiny_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder), device="cpu")


def test_an_artifact_encodes_as_in_the_service() -> None:
    """Two threads give the service's vectors, in the order of the texts, of unit length."""
    texts = [f"{text} {number}" for number in range(3) for text in SAMPLE_TEXTS]
    artifact = load_artifact(ARTIFACT)
    found = ArtifactEncoder(artifact, threads=2).encode(texts)
    expected = OnnxEncoder(artifact).encode(texts).vectors
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("where", ["all-minilm-l6-v2", str(ARTIFACT)])
def test_an_artifact_is_found_by_name_or_folder(where: str) -> None:
    """Its name says its precision, its fingerprint is the one stored vectors carry."""
    encoder = load_encoder(where)
    assert encoder.name == "all-minilm-l6-v2 int8"
    assert encoder.fingerprint == load_artifact(ARTIFACT).fingerprint
    assert encoder.count_tokens("how old are you") == 6


def test_a_pinned_name_is_the_model_not_the_artifact() -> None:
    """The base is measured in full precision, known by the hash of its weights file."""
    encoder = load_encoder("all-MiniLM-L6-v2")
    assert encoder.name == "all-MiniLM-L6-v2"
    assert encoder.fingerprint == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_an_artifact_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """An altered file is named; the folder is not tried as a model."""
    folder = tmp_path / ARTIFACT.name
    shutil.copytree(ARTIFACT, folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        load_encoder(str(folder))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The error names what was given."""
    with pytest.raises(TrainingError, match=r"gone: there is no such model folder$"):
        load_encoder(str(tmp_path / "gone"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """A folder of something else is named in one line."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError) as caught:
        load_encoder(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: cannot be loaded (")
    assert "\n" not in str(caught.value)


def test_a_model_encodes_as_sentence_transformers_does(tiny: SentenceTransformer) -> None:
    """Whatever the order and however many, the vectors are the library's, of unit length."""
    texts = [f"{text} {'a ' * (number % 7)}" for number in range(40) for text in TEXTS]
    found = from_model(tiny, "tiny").encode(texts)
    assert found.shape == (200, 32)
    assert found.dtype == np.float32
    expected = np.stack([tiny.encode(text, normalize_embeddings=True) for text in texts])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_measuring_leaves_a_model_in_training(tiny: SentenceTransformer) -> None:
    """Dropout is off for the vectors, and on again afterwards if it was."""
    encoder = from_model(tiny, "tiny")
    tiny.train()
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS))
    assert all(module.training for module in tiny.modules())
    tiny.eval()
    encoder.encode(TEXTS)
    assert not any(module.training for module in tiny.modules())


def test_the_fingerprint_follows_the_weights(tiny: SentenceTransformer, tiny_folder: Path) -> None:
    """Equal weights have equal fingerprints; the least change of one gives another."""
    encoder = from_model(tiny, "tiny")
    again = SentenceTransformer(str(tiny_folder), device="cpu")
    before = encoder.fingerprint
    assert before == state_sha256(again)
    with torch.no_grad():
        next(tiny.parameters()).view(-1)[0] += 1e-6
    assert encoder.fingerprint != before


def test_a_model_folder_is_known_by_its_weights_file(tiny_folder: Path) -> None:
    """The fingerprint is what sha256sum says, and a run's folder `model` is named by the run."""
    encoder = load_encoder(str(tiny_folder))
    weights = (tiny_folder / "model.safetensors").read_bytes()
    assert encoder.fingerprint == hashlib.sha256(weights).hexdigest()
    assert encoder.name == "tuned/model"


def test_weights_in_several_files_are_hashed_together(tiny_folder: Path, tmp_path: Path) -> None:
    """Where the weights file is not all there is, the fingerprint is that of the state."""
    folder = tmp_path / "wider"
    shutil.copytree(tiny_folder, folder)
    (folder / "2_Dense").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "2_Dense")
    loaded = SentenceTransformer(str(tiny_folder), device="cpu")
    assert load_encoder(str(folder)).fingerprint == state_sha256(loaded)


def test_tokens_are_counted_as_far_as_they_are_read(tiny: SentenceTransformer) -> None:
    """Special tokens count, those past the model's maximum of 16 do not."""
    encoder = from_model(tiny, "tiny")
    assert encoder.count_tokens("where is the parcel") == 6
    assert encoder.count_tokens("the " * 100) == 16


def test_threads_of_torch_are_put_back(tiny: SentenceTransformer) -> None:
    """Encoding in a number of threads of its own changes nothing for others."""
    before = torch.get_num_threads()
    encoder = from_model(tiny, "tiny", threads=before + 1)
    encoder.encode(TEXTS)
    encoder.encode_alone(TEXTS[0])
    assert torch.get_num_threads() == before


def test_a_device_that_is_not_there_is_named(tiny_folder: Path) -> None:
    """Asking for a device this machine has not is an error of one line."""
    with pytest.raises(TrainingError, match="cannot be put on the device nowhere"):
        load_encoder(str(tiny_folder), device="nowhere")


def test_no_texts_are_a_mistake(tiny: SentenceTransformer) -> None:
    """Nothing to encode has no number of dimensions."""
    with pytest.raises(ValueError, match="no texts"):
        from_model(tiny, "tiny").encode([])
