"""Words that an encoder cannot tell from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

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
    token = getattr(tokenizer.model, "unk_token", None)
    unknown = None if token is None else tokenizer.token_to_id(token)

    def words(text: str) -> frozenset[str]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return frozenset([text.strip().casefold()])
        return frozenset(
            text[start:end].casefold()
            for found, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if found == unknown
        )

    return words


def unknown_to(artifact: Artifact) -> Unknown:
    """Return `unknown_words` of an artifact's tokenizer."""
    tokenizer = Tokenizer.from_file(str(artifact.path / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(artifact.manifest.max_tokens)
    return unknown_words(tokenizer)
