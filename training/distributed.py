"""Similarities across processes: every process sees the candidates of all, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """Return how many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among those that train together, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def gather(rows: Tensor) -> list[Tensor]:
    """Return the rows of every process, in the order of the processes; one's own among them.

    rows: (n_i, ...), n_i may differ between processes; the rest of the shape may not. Gradients
    flow back to the process that the rows came from.
    """
    count = processes()
    if count == 1:
        return [rows]
    counts = [int(size) for size in _all(torch.tensor([len(rows)], device=rows.device))]
    padding = rows.new_zeros((max(counts) - len(rows), *rows.shape[1:]))
    padded = torch.cat([rows, padding])
    gathered: tuple[Tensor, ...] = _Gather.apply(padded)  # type: ignore[no-untyped-call]
    return [part[:size] for part, size in zip(gathered, counts, strict=True)]


def _all(tensor: Tensor) -> list[Tensor]:
    """Return a tensor of every process; all have one shape, and no gradients flow."""
    parts = [torch.empty_like(tensor) for _ in range(processes())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


class _Gather(torch.autograd.Function):
    """all_gather, whose gradient is the sum of what every process made of this one's rows.

    torch has its own under torch.distributed.nn, which is deprecated.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        return tuple(_all(tensor))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        parts = torch.stack(gradients)
        dist.all_reduce(parts)
        return parts[dist.get_rank()]
