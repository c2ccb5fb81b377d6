"""Words that an encoder cannot tell from each other."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from app.encoders.artifact import TOKENIZER

if TYPE_CHECKING:
    from app.domain.scoring import Unknown
    from app.encoders.artifact import Artifact


def unknown_words(tokenizer: Tokenizer) -> Unknown:
    """Return a function that gives the words of a text that are one token to the tokenizer.

    All words without known pieces become the same token, so texts that differ in nothing else have
    equal vectors. A text of which nothing is left counts as one such word. A tokenizer without a
    token for the unknown knows everything.
    """
    plain = _longest_plain(tokenizer)
    token = getattr(tokenizer.model, "unk_token", None)
    unknown = None if token is None else tokenizer.token_to_id(token)

    def words(text: str) -> frozenset[str]:
        runs = text.split()
        # Most texts are plain, and looking at their tokens takes longer than all other evidence.
        if runs and text.isascii() and text.isprintable() and max(map(len, runs)) <= plain:
            return frozenset()
        encoding = tokenizer.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return frozenset([text.strip().casefold()])
        return frozenset(
            text[start:end].casefold()
            for found, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if found == unknown
        )

    return words


def _longest_plain(tokenizer: Tokenizer) -> int:
    """Return up to which length a run of printable ASCII is known for sure: 0 if none is.

    WordPiece knows a word of up to so many characters if it has each of them as a piece, at the
    start and further on.
    """
    model = tokenizer.model
    if not isinstance(model, WordPiece):
        return 0
    characters = string.digits + string.ascii_letters + string.punctuation
    if tokenizer.normalizer is not None:
        characters = tokenizer.normalizer.normalize_str(characters)
    pieces = [*characters, *(model.continuing_subword_prefix + one for one in characters)]
    whole = all(tokenizer.token_to_id(piece) is not None for piece in pieces)
    return int(model.max_input_chars_per_word) if whole else 0


def unknown_to(artifact: Artifact) -> Unknown:
    """Return `unknown_words` of an artifact's tokenizer."""
    tokenizer = Tokenizer.from_file(str(artifact.path / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(artifact.manifest.max_tokens)
    return unknown_words(tokenizer)
