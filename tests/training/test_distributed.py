"""Two processes give the loss and the gradients of one with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from training.distributed import gather, processes, rank
from training.losses import make_loss

ROOT = Path(__file__).parents[2]
LOSSES = ("original", "mean_negative", "closest_negative", "full", "softmax", "full + ranking")
COLUMNS = [
    ["how old are you", "open a tin", "where is the moon", "fix my bike", "bake bread", "sleep"],
    ["what is your age", "get a can open", "moon position", "repair a bicycle", "loaf", "rest"],
    ["how tall are you", "", "where is the sun", "sell my bike", "", "sleep mode of a laptop"],
]
# Rows 0 and 4 are of one group; two rows have no negative of their own.
LABELS = [[1, 9], [2, -1], [3, 7], [4, 2], [1, -1], [6, 8]]
SLICES = [[(0, 3), (3, 6)], [(0, 4), (4, 6)]]


@pytest.fixture(scope="module")
def found(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the mean loss and the gradients of two processes, by loss and number of slices."""
    folder = tmp_path_factory.mktemp("processes")
    given = {"losses": LOSSES, "columns": COLUMNS, "labels": LABELS, "slices": SLICES}
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    script = Path(__file__).with_name("two_processes.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", script, folder, tiny_model_folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = torch.load(folder / "found.pt")
    return made


@pytest.mark.parametrize("slices", range(2), ids=["even", "uneven"])
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_are_one_with_the_whole_batch(
    found: dict[str, Any], tiny_model_folder: Path, name: str, slices: int
) -> None:
    """Every loss to 1e-5, every weight's gradient to 5e-5; whatever rows each process has."""
    model = SentenceTransformer(str(tiny_model_folder), device="cpu")
    model.eval()
    rows, ranked, _ = name.partition(" + ranking")
    loss = make_loss(rows, model, alpha=0.5, ranking=float(bool(ranked)))
    value = loss([model.preprocess(texts) for texts in COLUMNS], torch.tensor(LABELS))
    value.backward()
    two = found[f"{name} {slices}"]
    assert value.item() > 0
    torch.testing.assert_close(two["loss"], value.detach(), atol=1e-5, rtol=0)
    for key, weight in model.named_parameters():
        gradient = two["gradients"][key]
        assert (weight.grad is None) == (gradient is None)
        if weight.grad is not None and gradient is not None:
            torch.testing.assert_close(gradient, weight.grad, atol=5e-5, rtol=0)


def test_alone_nothing_is_gathered() -> None:
    """Without other processes the rows come back as they are, gradients and all."""
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather(rows)[0] is rows
    assert (processes(), rank()) == (1, 0)
