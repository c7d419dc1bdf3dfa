"""How CSSC is trained, from settings to a run folder. The recipe owns its loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch.optim import Optimizer

from reid_core.commands.best import BestWeights
from reid_core.commands.training_data import open_images_of_training, open_training_data
from reid_core.commands.training_results import (
    evaluate_epoch,
    leave_results,
    next_epoch,
    require_epochs_left,
)
from reid_core.config import to_dict
from reid_core.data.batching import check_distinct_batching
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.engine import Run, Weights, average_gradients, build_schedule
from reid_core.engine.optimizers import build_optimizer
from reid_core.evaluation.evaluator import Evaluation
from reid_cssc import __version__
from reid_cssc.config import CSSCConfig
from reid_cssc.loading import cssc_card
from reid_cssc.model import CSSC
from reid_cssc.results import CSSC_INFO
from reid_cssc.step import TrainingStep
from reid_cssc.weights import read_official

__all__ = ["build_model", "train"]


def train(config: CSSCConfig, *, preset: str = "", command: str = "", resume: bool = False) -> Path:
    """Train CSSC and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: config.json, metrics.jsonl, TensorBoard events, last.pt, model.safetensors
        (without training heads) with its card, results.json and report.html.

    Raises:
        ReIDError: When data, settings or weights cannot be used, or a loss is not finite.
    """
    with Run.start(
        config.run,
        method="cssc",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=f"cssc-{config.data.dataset}-{preset or 'run'}",
    ) as run:
        dataset = open_training_data(run, config, title="CSSC")
        check_distinct_batching(
            [sample.pid for sample in dataset.train],
            config.batch_size,
            config.num_instances,
            run.world_size,
        )
        with torch.device("meta"):
            outline = build_model(config, dataset, weights="none")
        evaluator, loader = open_images_of_training(
            run, config, dataset, outline, partial(order_images, config, run)
        )
        with run.main_first():  # start weights are downloaded once
            start = "none" if run.resumed else config.model.weights
            model = build_model(config, dataset, weights=start).to(run.device)
        optimizer = build_optimizer(model.parameters(), config.optim)
        first_epoch = 0 if run.resumed else load_official(config, model, optimizer)
        schedule = build_schedule(optimizer, config.optim, first_epoch)
        step = TrainingStep(
            model,
            config.loss,
            optimizer,
            autocast=run.autocast,
            synchronize=average_gradients,
        )
        best = BestWeights(run, "cssc", keep=config.select == "best")
        run.track(model=model, optimizer=optimizer, schedule=schedule, best=best)
        if run.position == (0, 0) and config.start_from is None:
            evaluate_epoch(run, evaluator, model, -1)
        require_epochs_left(run, config.epochs)

        card = cssc_card(config, model)
        evaluation: Evaluation | None = None
        for epoch in run.epochs(config.epochs, first=first_epoch):
            loader.set_epoch(epoch)
            model.train()
            for batch in run.batches(loader):
                run.record(step(batch.images, batch.pids, epoch), batch)
            schedule.step()
            if run.should_evaluate(epoch, config.epochs):
                evaluation = None  # the features of the one before
                evaluation = evaluate_epoch(run, evaluator, model, epoch)
                best.offer(evaluation, epoch, Weights(model.inference_state(), card))

        if config.select == "best":
            # The training heads stay the last epoch's; nothing looks at them any more.
            model.load_state_dict({**model.state_dict(), **best.weights()})
            evaluation = None
        if evaluation is None:  # the weights are not those evaluated last
            evaluation = evaluator(model)
        if run.is_main:
            weights = Weights(model.inference_state(), card)
            leave_results(run, CSSC_INFO, config, dataset, evaluation, weights, best)
        return run.folder


def order_images(
    config: CSSCConfig, run: Run, samples: Sequence[Sample]
) -> DistinctIdentitySampler:
    """Return the official order of the training images."""
    return DistinctIdentitySampler(
        [sample.pid for sample in samples],
        config.batch_size,
        config.num_instances,
        config.run.seed,
        run.rank,
        run.world_size,
    )


def build_model(config: CSSCConfig, dataset: ReIDDataset, *, weights: str) -> CSSC:
    """Build the network with training heads for the identities of a data set.

    Args:
        config: Backbone and last stride.
        dataset: The data set.
        weights: Start of the backbone, as ``config.model.weights``.
    """
    return CSSC(
        dataset.num_pids,
        backbone=config.model.backbone,
        last_stride=config.model.last_stride,
        weights=weights,
    )


def load_official(config: CSSCConfig, model: CSSC, optimizer: Optimizer) -> int:
    """Load ``config.start_from`` if there is one; return the epoch to start at.

    Takes over the network and, where the file has it, Adam's state, as the official code does when
    it resumes; its learning rates are those of the schedule.
    """
    if config.start_from is None:
        return 0
    checkpoint = read_official(config.start_from)
    checkpoint.load_into(model)
    checkpoint.load_optimizer(optimizer)
    return next_epoch(config.start_from, checkpoint.epoch, config.epochs, evaluate="cssc-eval")
