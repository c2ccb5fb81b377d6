"""Fine-tune an encoder: from a config and its data to a folder with the tuned model in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.data_collator import (
    SentenceTransformerDataCollator,
)
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from training import run
from training.data import read_texts
from training.encoders import from_model, load_encoder
from training.export import load_model
from training.losses import BatchLoss, TripletLoss, make_loss
from training.measure import DevMeasure
from training.miner import Miner
from training.stay_close import StayClose, beside
from training.steps import StepBatches, Unlabelled
from training.trainer import (
    DevSets,
    EverySteps,
    Patience,
    TripletTrainer,
    attend_eagerly,
    freeze_embeddings,
    freeze_unused,
    last_checkpoint,
    rewind_log,
    set_dropout,
)
from training.tuned import save_end, write_model
from training.weights import find_base

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.prepare import Prepared

# Where nothing else is said: often enough to see the curve, seldom enough to spend the time on
# training.
_MEASUREMENTS = 10


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of this run, as torchrun or accelerate started them."""

    rank: int
    count: int

    @classmethod
    def of_environment(cls) -> Processes:
        """Return what the launcher said; one process without a launcher."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            torch.distributed.barrier()


def train(config: TrainConfig, prepared: Prepared, *, resume: bool) -> None:
    """Train as configured and leave the chosen weights in the run's folder, `model`.

    Every process that torchrun or accelerate started calls this. resume: go on from the last whole
    checkpoint; the result is the one without the interruption.
    Raises TrainingError where the base, the teacher or the unlabelled texts cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    processes = Processes.of_environment()
    checkpoints = config.output / run.CHECKPOINTS
    checkpoint = last_checkpoint(checkpoints) if resume else None
    done = 0 if checkpoint is None else int(checkpoint.name.split("-")[1])
    set_seed(config.seed)
    model = load_model(find_base(config.base))
    batches = StepBatches(
        prepared.pairs,
        prepared.groups,
        batch=config.batch,
        seed=config.seed,
        epochs=config.epochs,
        steps=config.steps,
        accumulate=config.accumulate,
        collate=SentenceTransformerDataCollator(preprocess_fn=model.preprocess),
        labelled_negatives=config.labelled_negatives,
        lone_negatives=config.lone_negatives,
        hard=config.hard,
        rank=processes.rank,
        processes=processes.count,
    )
    steps = len(batches) // config.accumulate
    arguments = _arguments(config, checkpoints, steps, resumed=checkpoint is not None)
    model.to(arguments.device)
    if arguments.device.type == "cpu":
        attend_eagerly(model)
    if config.stay_close and config.unlabelled is not None:
        wanted = config.unlabelled_limit or len(batches) * config.unlabelled_a_step
        texts = read_texts(config.unlabelled, limit=wanted)
        batches.unlabelled(_taught(config, texts, model, processes), config.unlabelled_a_step)
    callbacks: list[Any] = [Patience(config.patience)] if config.patience else []
    if config.mine or config.hard:
        miner = Miner(
            config,
            prepared,
            batches,
            from_model(model, "the encoder so far"),
            first=processes.first,
            wait=processes.wait,
        )
        miner.resume(done)
        callbacks.append(EverySteps(config.mine_every, miner.mine))
    if processes.first:
        rewind_log(config.output / run.LOG, done)
    processes.wait()
    set_dropout(model, config.dropout)
    freeze_unused(model)
    if config.freeze_embeddings:
        freeze_embeddings(model)
    measure = DevMeasure(config, prepared)
    trainer = TripletTrainer(
        batches=batches,
        log=config.output / run.LOG,
        model=model,
        args=arguments,
        loss=_loss(config, model),
        evaluator=DevSets(lambda tuned: measure(from_model(tuned, "tuned"))),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    processes.wait()
    if processes.first:
        save_end(config, model)
        write_model(config, prepared)
    processes.wait()


def _arguments(
    config: TrainConfig, checkpoints: Path, steps: int, *, resumed: bool
) -> SentenceTransformerTrainingArguments:
    # Lines of progress and of the log are enough; the libraries' own notices say nothing more.
    transformers_logging.set_verbosity_error()
    every = config.evaluate_every or max(1, steps // _MEASUREMENTS)
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup * steps),
        bf16=config.mixed_precision == "bf16",
        fp16=config.mixed_precision == "fp16",
        use_cpu=config.device == "cpu" or not torch.accelerator.is_available(),
        seed=config.seed,
        logging_steps=config.log_every,
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=every,
        # A checkpoint was measured when it was written.
        eval_on_start=not resumed,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_dev/score",
        greater_is_better=True,
        report_to="none",
        # Theirs is a wall of figures; `Progress` has its own.
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        # A process calls the model as often as its rows ask for: no call may wait for the others.
        ddp_broadcast_buffers=False,
    )


def _loss(config: TrainConfig, model: SentenceTransformer) -> BatchLoss | TripletLoss | StayClose:
    loss = make_loss(
        config.loss,
        model,
        alpha=config.alpha,
        closest=config.closest,
        scale=config.scale,
        mean_weight=config.mean_weight,
        closest_weight=config.closest_weight,
        ranking=config.ranking,
    )
    if config.stay_close and config.unlabelled is not None:
        return StayClose(loss, model, weight=config.stay_close)
    return loss


def _taught(
    config: TrainConfig, texts: list[str], model: SentenceTransformer, processes: Processes
) -> Unlabelled:
    """Return the unlabelled texts with the teacher's vectors, kept in the run for a resumption."""
    file = config.output / "teacher.npy"
    if processes.first and not file.is_file():
        vectors = from_model(model, "base").encode(texts)
        if config.teacher:
            threads = config.threads or torch.get_num_threads()
            teacher = load_encoder(config.teacher, threads=threads, device=str(model.device))
            with torch.autocast(
                model.device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"
            ):
                taught = teacher.encode(texts)
            vectors = beside(vectors, taught, share=config.teacher_share)
        vectors = vectors.astype(np.float16)
        partial = file.with_name(".teacher.partial.npy")
        np.save(partial, vectors)
        partial.replace(file)
    processes.wait()
    return Unlabelled(texts, np.load(file))
