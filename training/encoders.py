"""Encoders under one interface for measuring: artifacts as the service runs them, and models.

`load_encoder` takes what a person gives on a command line; `from_model` wraps a model in memory,
for measuring while it is being trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from app.domain.errors import ArtifactError
from app.encoders.artifact import MANIFEST, Artifact, find_artifact, load_artifact
from training.errors import TrainingError
from training.weights import PINNED, SLICED, WEIGHTS, find_base

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_TEXTS_A_CALL = 64
# Below it, encoding is over before anyone looks for its progress.
_LONG_JOB = 5_000


class Encoder(Protocol):
    """Turns texts into unit vectors that compare with its own only."""

    @property
    def name(self) -> str:
        """Return what to call it in a table."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 (hex): where it is equal, so are the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, (n, dim) float32, unit length, in the order given."""
        ...


class TimedEncoder(Encoder, Protocol):
    """An encoder whose time for one question can be taken."""

    def count_tokens(self, text: str) -> int:
        """Return how many tokens of the text are read, special ones included."""
        ...

    def encode_alone(self, text: str) -> None:
        """Encode one text in one thread, the whole way from the text to its vector."""
        ...


class ArtifactEncoder:
    """An encoder artifact through the service's own code, without its cache of vectors."""

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        """Load the artifact's graph; `threads` of them run at once.

        Raises ArtifactError where the graph or the tokenizer cannot be used.
        """
        from app.encoders.onnx import OnnxEncoder

        self._encoder = OnnxEncoder(artifact)
        self._threads = threads
        # An artifact may be called like the model that it was made from.
        self.name = f"{artifact.manifest.name} {artifact.manifest.precision}"
        self.fingerprint = artifact.fingerprint

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, (n, dim) float32, unit length, in the order given."""
        with ThreadPoolExecutor(self._threads) as pool:
            return _in_calls(
                texts,
                lambda calls: (found.vectors for found in pool.map(self._encoder.encode, calls)),
                self.name,
            )

    def count_tokens(self, text: str) -> int:
        """Return how many tokens of the text are read, special ones included."""
        return self._encoder.encode([text]).tokens[0]

    def encode_alone(self, text: str) -> None:
        """Encode one text in one thread, the whole way from the text to its vector."""
        self._encoder.encode([text])


class ModelEncoder:
    """A sentence-transformers model, on the device where it is."""

    def __init__(
        self,
        model: SentenceTransformer,
        name: str,
        *,
        fingerprint: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Wrap a model.

        fingerprint: None to have it computed from the weights as they are when it is asked for;
        threads: of torch while it encodes, None to leave torch's setting alone.
        """
        self._model = model
        self._fingerprint = fingerprint
        self._threads = threads
        self.name = name

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the weights: of their file, or of the state in memory."""
        return self._fingerprint or state_sha256(self._model)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, (n, dim) float32, unit length, in the order given."""
        with _torch_threads(self._threads):
            return _in_calls(texts, lambda calls: map(self._vectors, calls), self.name)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens of the text are read, special ones included."""
        return min(len(self._model.tokenizer(text)["input_ids"]), int(self._model.max_seq_length))

    def encode_alone(self, text: str) -> None:
        """Encode one text in one thread, the whole way from the text to its vector."""
        with _torch_threads(1):
            self._vectors([text])

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # The library leaves the model in the mode for use, in which nothing is dropped out.
        training = self._model.training
        try:
            found = self._model.encode(
                list(texts),
                batch_size=len(texts),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        finally:
            self._model.train(training)
        vectors: NDArray[np.float32] = np.asarray(found, dtype=np.float32)
        return vectors


def load_encoder(where: str, *, threads: int = 1, device: str = "cpu") -> TimedEncoder:
    """Return the encoder of an artifact's folder or name, or of a sentence-transformers model.

    where: a pinned name, then an artifact's folder or shipped name, then a folder or name for
    sentence-transformers; device: for models, artifacts always run on the CPU.
    Raises ArtifactError where an artifact's folder is not whole, TrainingError where a model cannot
    be loaded.
    """
    if where not in PINNED and where not in SLICED:
        try:
            folder = find_artifact(where)
        except ArtifactError:
            folder = Path(where)
        if (folder / MANIFEST).is_file():
            return ArtifactEncoder(load_artifact(folder), threads=threads)
    from training.export import load_model

    base = find_base(where)
    model = load_model(base)
    try:
        model.to(device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{where}: cannot be put on the device {device} ({reason})") from error
    # The hash of one file identifies a model only if all its weights are in it.
    files = list(Path(base.location).rglob("*.safetensors"))
    whole = files == [Path(base.location) / WEIGHTS]
    return ModelEncoder(
        model, _name(base.name, where), fingerprint=base.sha256 if whole else None, threads=threads
    )


def from_model(
    model: SentenceTransformer, name: str, *, threads: int | None = None
) -> ModelEncoder:
    """Return the encoder of a model in memory; its weights may go on changing.

    threads: of torch while it encodes, None to leave torch's setting alone.
    """
    return ModelEncoder(model, name, threads=threads)


def state_sha256(model: Any) -> str:
    """Return the SHA-256 (hex) of a torch module's state: names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _name(name: str, where: str) -> str:
    """Return a name that tells runs apart: each has a folder `model`."""
    return f"{Path(where).resolve().parent.name}/{name}" if name == "model" else name


def _in_calls(
    texts: Sequence[str],
    encode: Callable[[Iterable[Sequence[str]]], Iterable[NDArray[np.float32]]],
    name: str,
) -> NDArray[np.float32]:
    """Return the vectors of texts, which go through `encode` in calls of about equal lengths."""
    if not texts:
        raise ValueError("there are no texts to encode")
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    places = [order[start : start + _TEXTS_A_CALL] for start in range(0, len(order), _TEXTS_A_CALL)]
    calls = [[texts[place] for place in some] for some in places]
    vectors: NDArray[np.float32] | None = None
    for some, found in zip(places, _shown(encode(calls), len(texts), name), strict=True):
        if vectors is None:
            vectors = np.empty((len(texts), found.shape[1]), dtype=np.float32)
        vectors[some] = found
    assert vectors is not None
    return vectors


def _shown(
    calls: Iterable[NDArray[np.float32]], texts: int, name: str
) -> Iterator[NDArray[np.float32]]:
    """Give the vectors of each call; where there are many texts, with progress on stderr."""
    if texts < _LONG_JOB:
        yield from calls
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}: {texts:,} texts", total=texts)
        for found in calls:
            progress.advance(task, len(found))
            yield found


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
