"""How AGW is trained, from settings to a run folder. The recipe owns its loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch.optim import Optimizer

from reid_agw import __version__
from reid_agw.config import AGWConfig, AGWOptimConfig
from reid_agw.loading import agw_card, build_network
from reid_agw.model import AGW
from reid_agw.results import AGW_INFO
from reid_agw.step import TrainingStep
from reid_agw.weights import read_official
from reid_core.commands.best import BestWeights
from reid_core.commands.console import say
from reid_core.commands.training_data import open_images_of_training, open_training_data
from reid_core.commands.training_results import (
    evaluate_epoch,
    leave_results,
    next_epoch,
    require_epochs_left,
)
from reid_core.config import to_dict
from reid_core.data.batching import check_cross_modality_batching
from reid_core.data.cross_modality_sampler import CrossModalitySampler
from reid_core.data.sample import Sample
from reid_core.engine import (
    ParameterGroup,
    Run,
    Weights,
    average_gradients,
    build_optimizer,
    build_schedule,
)
from reid_core.evaluation.evaluator import Evaluation

__all__ = ["build_optimizer_of", "train"]


def train(config: AGWConfig, *, preset: str = "", command: str = "", resume: bool = False) -> Path:
    """Train AGW and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: config.json, metrics.jsonl, TensorBoard events, last.pt, model.safetensors
        (without classifier) with its card, results.json and report.html.

    Raises:
        ReIDError: When data, settings or weights cannot be used, or a loss is not finite.
    """
    with Run.start(
        config.run,
        method="agw",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=f"agw-{config.data.dataset}-{preset or 'run'}",
    ) as run:
        dataset = open_training_data(run, config, title="AGW")
        check_cross_modality_batching(
            dataset.train, config.batch_size, config.num_instances, run.world_size
        )
        if run.is_main:
            say(describe_batches(config))
        with torch.device("meta"):
            outline = build_network(config, dataset.num_pids, weights="none")
        evaluator, loader = open_images_of_training(
            run, config, dataset, outline, partial(order_images, config, run)
        )
        with run.main_first():  # start weights are downloaded once
            start = "none" if run.resumed else config.model.weights
            model = build_network(config, dataset.num_pids, weights=start).to(run.device)
        optimizer = build_optimizer_of(model, config.optim)
        first_epoch = 0 if run.resumed else load_official(config, model)
        schedule = build_schedule(optimizer, config.optim, first_epoch)
        step = TrainingStep(
            model,
            config.loss,
            optimizer,
            autocast=run.autocast,
            synchronize=average_gradients,
        )
        best = BestWeights(run, "agw", keep=config.select == "best")
        run.track(model=model, optimizer=optimizer, schedule=schedule, best=best)
        if run.position == (0, 0) and config.start_from is None:
            evaluate_epoch(run, evaluator, model, -1)
        require_epochs_left(run, config.epochs)

        card = agw_card(config, model)
        evaluation: Evaluation | None = None
        for epoch in run.epochs(config.epochs, first=first_epoch):
            loader.set_epoch(epoch)
            model.train()
            for batch in run.batches(loader):
                run.record(step(batch.images, batch.pids), batch)
            schedule.step()
            if run.should_evaluate(epoch, config.epochs):
                evaluation = None  # the features of the one before
                evaluation = evaluate_epoch(run, evaluator, model, epoch)
                best.offer(evaluation, epoch, Weights(model.inference_state(), card))

        if config.select == "best":
            # The classifier stays the last epoch's; nothing looks at it any more.
            model.load_state_dict({**model.state_dict(), **best.weights()})
            evaluation = None
        if evaluation is None:  # the weights are not those evaluated last
            evaluation = evaluator(model)
        if run.is_main:
            weights = Weights(model.inference_state(), card)
            leave_results(run, AGW_INFO, config, dataset, evaluation, weights, best)
        return run.folder


def describe_batches(config: AGWConfig) -> str:
    """Say what a batch is made of, as the official ``--batch-size`` counts people."""
    size = config.num_instances
    return (
        f"batches of {config.batch_size} images: {config.batch_size // (2 * size)} people with "
        f"{size} visible and {size} infrared ones each"
    )


def order_images(config: AGWConfig, run: Run, samples: Sequence[Sample]) -> CrossModalitySampler:
    """Return the official order of these training images."""
    return CrossModalitySampler(
        samples,
        config.batch_size,
        config.num_instances,
        config.run.seed,
        run.rank,
        run.world_size,
    )


def build_optimizer_of(model: AGW, config: AGWOptimConfig) -> Optimizer:
    """Build the optimiser: neck and classifier at the full learning rate, all else at a share."""
    groups = model.parameter_groups()
    return build_optimizer(
        [
            ParameterGroup(groups.backbone, config.backbone_factor),
            ParameterGroup(groups.bottleneck),
            ParameterGroup(groups.classifier),
        ],
        config,
    )


def load_official(config: AGWConfig, model: AGW) -> int:
    """Load ``config.start_from`` if there is one; return the epoch to start at.

    The optimiser starts anew: its momentum is in no official file.
    """
    if config.start_from is None:
        return 0
    checkpoint = read_official(config.start_from)
    checkpoint.load_into(model)
    return next_epoch(
        config.start_from, checkpoint.figures.epoch, config.epochs, evaluate="agw-eval"
    )
