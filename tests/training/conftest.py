"""A tiny encoder with random weights, for tests that train or export one."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = (
    "how do i reset my password where is the parcel a to in what can you we they it of for when "
    "will arrive change cancel order money back account card pay open close lost phone number "
    "address send return shop hours late broken new old best way learn language book city train "
    "ticket price weather today tomorrow name who why which are was has have not no yes ? . , '"
)
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sentence-transformers model: two layers, 32 dimensions.

    Its words are WORDS; any others come apart into letters.
    """
    folder = tmp_path_factory.mktemp("tiny")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = dict.fromkeys([*MARKS, *WORDS.split(), *letters, *(f"##{one}" for one in letters)])
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        bert = BertModel(
            BertConfig(
                # Exporting traces the graph with ids of the usual vocabulary.
                vocab_size=2304,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                # Exporting sets its scales on rows of up to 42 tokens.
                max_position_embeddings=64,
            )
        )
    bert.save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    model = SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture
def tiny_model(tiny_model_folder: Path) -> SentenceTransformer:
    """Return the tiny model anew, dropout off."""
    return SentenceTransformer(str(tiny_model_folder), device="cpu").eval()
