"""One process of several: the loss and the gradients of its slice of a batch, by torchrun."""

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from torch.nn.parallel import DistributedDataParallel

from training.losses import make_loss


def measured(
    name: str, model_folder: str, columns: list[list[str]], labels: torch.Tensor
) -> dict[str, Any]:
    """Return the mean loss of all processes and the gradients of this one.

    Its own function, so that the wrapped model is gone before the process group is: freed after
    it, the process now and then never ends.
    """
    model = SentenceTransformer(model_folder, device="cpu")
    model.eval()
    # BERT's pooler has no part in the vectors: DDP would wait for its gradients for ever.
    for key, weight in model.named_parameters():
        weight.requires_grad_(".pooler." not in key)
    rows, ranked, _ = name.partition(" + ranking")
    loss = make_loss(rows, DistributedDataParallel(model), alpha=0.5, ranking=float(bool(ranked)))
    value = loss([model.preprocess(texts) for texts in columns], labels)
    value.backward()
    mean = value.detach().clone()
    dist.all_reduce(mean)
    return {
        "loss": mean / dist.get_world_size(),
        "gradients": {key: weight.grad for key, weight in model.named_parameters()},
    }


def main(folder: Path, model_folder: str) -> None:
    """Write the mean loss and the gradients into the folder that says what they are of."""
    # Says where, should the processes ever wait for each other.
    faulthandler.dump_traceback_later(45, exit=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    given: dict[str, Any] = json.loads((folder / "given.json").read_text(encoding="utf-8"))
    rank = dist.get_rank()
    found: dict[str, Any] = {}
    for place, slices in enumerate(given["slices"]):
        first, last = slices[rank]
        for name in given["losses"]:
            columns = [texts[first:last] for texts in given["columns"]]
            found[f"{name} {place}"] = measured(
                name, model_folder, columns, torch.tensor(given["labels"][first:last])
            )
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
