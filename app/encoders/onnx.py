"""The default encoder: an artifact's ONNX graph on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from app.domain.errors import ArtifactError
from app.domain.ports import Encoded
from app.encoders.artifact import MODEL, OUTPUT, TOKENIZER, graph_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.encoders.artifact import Artifact

# Tokens of one call of the graph: enough to share its overhead, few enough to stay in the cache.
_TOKENS_A_CALL = 512
# A text joins a call if it is at most so many times (and a token) longer than the shortest in it:
# padding is computed and thrown away.
_PADDING = 1.35
# Pairs of places that the attention of a packed graph may compute for nothing: about what a call of
# its own costs. The linear layers of such a graph see no padding.
_PADDED_PAIRS = 2_500


class OnnxEncoder:
    """Turns texts into unit vectors; safe to call from several threads at once.

    One session with one thread of its own: the caller's threads are the parallelism, so that two
    lookups at once do not fight over a pool. Texts share a call of the graph only where the
    artifact's manifest says that this leaves their vectors alone, and only with texts of so nearly
    the same number of tokens that the padding costs less than a call.
    """

    def __init__(self, artifact: Artifact) -> None:
        """Load the graph and the tokenizer.

        Raises ArtifactError where either cannot be used by the libraries installed.
        """
        self._manifest = artifact.manifest
        self._fingerprint = artifact.fingerprint
        self._tokenizer = _load_tokenizer(artifact)
        self._session = _load_session(artifact)

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self._manifest.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the manifest: two encoders with the same one give the same vectors."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""
        return self._manifest.dimension

    @property
    def max_tokens(self) -> int:
        """The most tokens of a text that count, special tokens included."""
        return self._manifest.max_tokens

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return one unit vector a text, in order, each independent of the other texts."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        rows: list[list[int]] = []
        truncated: list[bool] = []
        # One call for all gives the interpreter lock away once.
        for encoding in self._tokenizer.encode_batch_fast(list(texts)):
            rows.append(encoding.ids)
            truncated.append(bool(encoding.overflowing))
        for places in self._shared(rows):
            vectors[places] = self._run([rows[place] for place in places])
        return Encoded(vectors, tuple(len(row) for row in rows), tuple(truncated))

    def _shared(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return which texts go through the graph together, by place."""
        if self._manifest.batching == "one" or len(rows) == 1:
            return [[place] for place in range(len(rows))]
        fits = _fits_packed if self._manifest.batching == "packed" else _fits_padded
        return _calls([len(row) for row in rows], fits)

    def _run(self, rows: list[list[int]]) -> NDArray[np.float32]:
        """Return the vectors, (n, dim) float32, of token rows, padded to the longest."""
        vectors: NDArray[np.float32] = self._session.run([OUTPUT], graph_input(rows))[0]
        return vectors


def _calls(lengths: Sequence[int], fits: Callable[[list[int], int], bool]) -> list[list[int]]:
    """Return which texts share a call, by place, the shortest first.

    lengths: of each text, in tokens. fits: whether one at least as long may join those of a call.
    """
    calls: list[list[int]] = []
    inside: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not inside or not fits(inside, lengths[place]):
            calls.append([])
            inside = []
        calls[-1].append(place)
        inside.append(lengths[place])
    return calls


def _fits_padded(inside: list[int], length: int) -> bool:
    """Return whether a text fits where every layer computes padding like tokens."""
    padded = (len(inside) + 1) * length
    return padded <= _TOKENS_A_CALL and length <= inside[0] * _PADDING + 1


def _fits_packed(inside: list[int], length: int) -> bool:
    """Return whether a text fits where the linear layers see no padding."""
    pairs = len(inside) * length**2 - sum(other**2 for other in inside)
    return sum(inside) + length <= _TOKENS_A_CALL and pairs <= _PADDED_PAIRS


def _load_tokenizer(artifact: Artifact) -> Tokenizer:
    path = artifact.path / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception, with the reason as its text
        raise ArtifactError(path, f"the tokenizer cannot be loaded ({error})") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(artifact.manifest.max_tokens)
    return tokenizer


def _load_session(artifact: Artifact) -> onnxruntime.InferenceSession:
    path = artifact.path / MODEL
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Artifacts are optimised when they are exported. The further fusions that ONNX Runtime would
    # make here (`SkipLayerNormalization`, `BiasGelu`) are slower on a CPU.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # several classes of onnxruntime's, none of them public
        reason = str(error).splitlines()[0]
        raise ArtifactError(path, f"the model cannot be loaded ({reason})") from error
    shape = next((out.shape for out in session.get_outputs() if out.name == OUTPUT), None)
    if shape is None or shape[-1] != artifact.manifest.dimension:
        problem = f"has no output {OUTPUT} of dimension {artifact.manifest.dimension}"
        raise ArtifactError(path, problem)
    return session
