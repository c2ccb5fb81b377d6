"""Soft whitening: a linear step after pooling, fitted without labels, that spreads vectors out.

What all texts have in common takes most of a vector's length, and what tells near texts apart
little of it. Tuning makes that worse: a duplicate's words point the same way, whatever they say.
Whitening divides each direction by how much texts differ in it (Su et al. 2021, arXiv:2103.15316,
whole whitening; soft forms of it, Diera et al. 2024, arXiv:2411.17538). Here a part of it: enough
for the finer directions to count, too little to make noise of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Dense

from training.encoders import from_model
from training.errors import TrainingError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Enough texts for the moments of some hundred directions, in a minute of two cores.
TEXTS = 24_000
# Of the mean variance: what is below is enlarged no further. Some directions hold nothing but
# noise, as layer normalisation takes the mean out of every state.
FLOOR = 0.3
# Where the step stands among the modules: after the transformer and the pooling.
_PLACE = 2


def whitening(vectors: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Return the symmetric matrix that whitens unit vectors by a strength, (dim, dim) float32.

    It is C^-strength, where C is the vectors' covariance, no direction's variance taken for less
    than FLOOR of the mean one; scaled so that whitened vectors have a mean squared length of 1.
    Vectors are multiplied as they are: how far all are from the origin tells similarities of pairs
    apart as well, and is wanted.

    vectors: (n, dim), unit length; strength: 0 leaves all as it is, 0.5 makes all variances
    above the floor equal.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
    scales = np.maximum(variances, FLOOR * variances.mean()) ** -strength
    matrix = (directions * scales) @ directions.T
    matrix /= np.sqrt(np.mean(np.sum((vectors @ matrix) ** 2, axis=1)))
    found: NDArray[np.float32] = matrix.astype(np.float32)
    return found


def whiten(model: SentenceTransformer, texts: Sequence[str], strength: float) -> torch.Tensor:
    """Put the whitening of texts' vectors behind a model's pooling; return its matrix.

    texts: some thousands, of the kinds that the encoder is for; more than it has dimensions.
    Raises TrainingError where there are too few, or where the model's pooling is followed by more
    than a product already.
    """
    check_whitening(model, texts)
    vectors = from_model(model, "whitening").encode(texts)
    matrix = torch.from_numpy(whitening(vectors, strength))
    put_matrix(model, matrix)
    return matrix


def check_whitening(model: SentenceTransformer, texts: Sequence[str]) -> None:
    """Raise TrainingError where a model's vectors cannot be whitened by these texts.

    A product behind the pooling may be there already, anything else not.
    """
    matrix_of(model)
    dimension = int(model.get_embedding_dimension() or 0)
    if len(texts) <= dimension:
        raise TrainingError(
            f"whitening needs more texts than a vector has numbers ({dimension}), not "
            f"{len(texts)}; leave it out (--whiten 0), or train on more texts in another --output"
        )


def matrix_of(model: SentenceTransformer) -> torch.Tensor | None:
    """Return the matrix (out, in) of the product behind a model's pooling, None without one.

    Raises TrainingError where the step there is more than a product.
    """
    if len(model) <= _PLACE or not isinstance(model[_PLACE], Dense):
        return None
    dense = model[_PLACE]
    plain = isinstance(dense.activation_function, torch.nn.Identity) and not dense.use_residual
    if not plain or dense.linear.bias is not None:
        raise TrainingError("the layer behind the pooling must be a product alone, without a bias")
    weight: torch.Tensor = dense.linear.weight.detach()
    return weight


def put_matrix(model: SentenceTransformer, matrix: torch.Tensor) -> None:
    """Multiply pooled vectors by a matrix (out, in), after the one that is there, if any.

    Raises TrainingError as `matrix_of` does.
    """
    before = matrix_of(model)
    whole = (matrix if before is None else matrix @ before).contiguous()
    dense = Dense(
        whole.shape[1],
        whole.shape[0],
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=whole,
    )
    if before is None:
        model.insert(_PLACE, dense)
    else:
        model[_PLACE] = dense
