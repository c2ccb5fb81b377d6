"""The two towers share their weights, so all texts of a step go through one model together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# Calls of the model a step. Rows are sorted by length first: in one call every row is padded to
# the longest, and of questions half the work would be padding.
_CALLS = 8
_FEWEST_ROWS_A_CALL = 16


def embed(model: nn.Module, columns: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    """Return the unit vectors, (n_i, dim) float32, of the texts of each column.

    model: a SentenceTransformer, or what wraps one for several processes; columns: tokenised
    texts, `input_ids` and `attention_mask` (n_i, t_i) padded on the right, as
    sentence-transformers' collator makes them.
    """
    counts = [len(column["input_ids"]) for column in columns]
    width = max(column["input_ids"].shape[1] for column in columns)
    ids = torch.cat([_widened(column["input_ids"], width) for column in columns])
    mask = torch.cat([_widened(column["attention_mask"], width) for column in columns])
    lengths = mask.sum(1)
    order = torch.argsort(lengths, stable=True)
    calls = max(1, min(_CALLS, len(order) // _FEWEST_ROWS_A_CALL))
    vectors = []
    for rows in torch.tensor_split(order, calls):
        longest = int(lengths[rows].max())
        features = {"input_ids": ids[rows, :longest], "attention_mask": mask[rows, :longest]}
        vectors.append(model(features)["sentence_embedding"].float())
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    unit = functional.normalize(torch.cat(vectors), dim=-1)[places]
    return list(torch.split(unit, counts))


def _widened(rows: Tensor, width: int) -> Tensor:
    # A padded place is masked, so what stands there is never read: 0 serves every tokenizer.
    return functional.pad(rows, (0, width - rows.shape[1]))
