"""Mining while training: when it is done, what it keeps for a resumption, what the report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training import run
from training.config import TrainConfig
from training.encoders import Encoder
from training.mining import MiningReport, mine, nearest_groups
from training.prepare import Prepared
from training.steps import StepBatches

_GROUP_NEIGHBOURS = 16


class Miner:
    """Finds hard negatives and neighbouring groups with the encoder as it is at some steps.

    Each mining is kept in the run's folder by its step, so a run that was killed goes on with the
    negatives it had.
    """

    def __init__(
        self,
        config: TrainConfig,
        prepared: Prepared,
        batches: StepBatches,
        encoder: Encoder,
        *,
        first: bool,
        wait: Callable[[], None],
    ) -> None:
        """Prepare for mining into `batches`.

        first: whether this is the process that mines; wait: for the others, until it has.
        """
        self._config = config
        self._prepared = prepared
        self._batches = batches
        self._encoder = encoder
        self._first = first
        self._wait = wait
        self._folder = config.output / "mined"

    def resume(self, step: int) -> None:
        """Give the batches what they had at a step: the last mining at or before it."""
        if self._first:
            for file in self._folder.glob("[0-9]*.npz"):
                if int(file.stem) > step:
                    file.unlink()
            said = run.read_json(self._config.output / run.MINING) or []
            kept = [entry for entry in said if entry["step"] <= step]
            run.write_json(self._config.output / run.MINING, kept)
        self._wait()
        done = sorted(int(file.stem) for file in self._folder.glob("[0-9]*.npz"))
        if not done:
            self.mine(0)
            return
        # The epoch under way keeps the neighbours that it began with.
        began = self._batches.epoch_start(step * self._config.accumulate)
        earlier = [mined for mined in done if mined * self._config.accumulate <= began]
        self._give(self._file(done[-1]), self._file(earlier[-1]))
        self._batches.hold_epoch(step * self._config.accumulate)
        self._give(self._file(done[-1]), self._file(done[-1]))

    def mine(self, step: int) -> None:
        """Mine with the encoder as it is now, for the steps after `step`."""
        if self._first:
            self._folder.mkdir(exist_ok=True)
            self._write(step)
        self._wait()
        self._give(self._file(step), self._file(step))

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.npz"

    def _give(self, negatives: Path, neighbours: Path) -> None:
        with np.load(negatives) as mined, np.load(neighbours) as near:
            chosen = mined["negatives"] if self._config.mine else None
            self._batches.mined(chosen, near["neighbours"])

    def _write(self, step: int) -> None:
        pairs, groups = self._prepared.pairs, self._prepared.groups
        vectors = self._encoder.encode(pairs.texts)
        neighbours = nearest_groups(vectors, groups, k=_GROUP_NEIGHBOURS)
        sides = self._batches.sides
        negatives: NDArray[np.int64] = np.full(sides.shape, -1, dtype=np.int64)
        if self._config.mine:
            # A text that is its own positive says nothing of how near a duplicate would be, so for
            # a lone negative's row the margin would let every unlabelled duplicate through.
            two = sides[:, 0] != sides[:, 1]
            # Either side of a pair may be the anchor: all left ones, then all right ones.
            mined = mine(
                vectors,
                groups,
                sides[two].T.reshape(-1),
                sides[two, ::-1].T.reshape(-1),
                k=self._config.mine,
                margin=self._config.mine_margin,
            )
            negatives[two] = mined.negatives.reshape(2, -1).T
            self._say(step, mined.report)
        partial = self._folder / f".{step}.partial.npz"
        np.savez(partial, negatives=negatives, neighbours=neighbours)
        partial.replace(self._file(step))

    def _say(self, step: int, report: MiningReport) -> None:
        """Add what one mining did, both sides of the pairs together, to the run's list."""
        file = self._config.output / run.MINING
        texts = self._prepared.pairs.texts
        entry = {
            "step": step,
            "looked_at": report.looked_at,
            "kept": report.kept,
            "dropped": report.dropped,
            "without": report.without,
            "examples": [
                {
                    "anchor": texts[one.anchor],
                    "candidate": texts[one.candidate],
                    "similarity": round(one.similarity, 4),
                    "positive_similarity": round(one.positive_similarity, 4),
                }
                for one in report.examples
            ],
        }
        said = [other for other in run.read_json(file) or [] if other["step"] != step]
        run.write_json(file, [*said, entry])
