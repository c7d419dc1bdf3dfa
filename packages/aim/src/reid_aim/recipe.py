"""How AIM is trained, from settings to a run folder. The recipe owns its loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR

from reid_aim import __version__
from reid_aim.config import AIMConfig
from reid_aim.loading import aim_card
from reid_aim.model import AIM
from reid_aim.results import AIM_INFO
from reid_aim.step import AIMOptimizers, TrainingStep, build_optimizers
from reid_aim.weights import PARTS, read_official
from reid_core.commands.best import BestWeights
from reid_core.commands.training_data import open_images_of_training, open_training_data
from reid_core.commands.training_results import (
    evaluate_epoch,
    leave_results,
    next_epoch,
    require_epochs_left,
)
from reid_core.config import OptimConfig, to_dict
from reid_core.data.batching import check_batching
from reid_core.data.sample import ReIDDataset, Sample, pid2clothes
from reid_core.data.samplers import IdentityChunkSampler
from reid_core.engine import Run, Weights, average_gradients, build_schedule
from reid_core.errors import CheckpointError
from reid_core.evaluation.evaluator import Evaluation

__all__ = ["build_model", "build_schedules", "train"]


def train(config: AIMConfig, *, preset: str = "", command: str = "", resume: bool = False) -> Path:
    """Train AIM and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: config.json, metrics.jsonl, TensorBoard events, last.pt, model.safetensors
        with its card, results.json and report.html.

    Raises:
        ReIDError: When data, settings or weights cannot be used, or a loss is not finite.
    """
    with Run.start(
        config.run,
        method="aim",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=f"aim-{config.data.dataset}-{preset or 'run'}",
    ) as run:
        dataset = open_training_data(run, config, title="AIM", clothes=True)
        check_batching(
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
        first_epoch = 0 if run.resumed else load_official(config, model)
        optimizers = build_optimizers(model, config.optim)
        schedules = build_schedules(optimizers, config.optim, first_epoch)
        step = TrainingStep(
            model,
            config.loss,
            optimizers,
            torch.from_numpy(pid2clothes(dataset.train)).to(run.device),
            autocast=run.autocast,
            synchronize=average_gradients,
        )
        best = BestWeights(run, "aim", keep=config.select == "best")
        run.track(
            **dict(model.named_children()),
            optimizer_main=optimizers.main,
            optimizer_clothes_branch=optimizers.clothes_branch,
            optimizer_clothes_classifier=optimizers.clothes_classifier,
            schedule_main=schedules[0],
            schedule_clothes_branch=schedules[1],
            best=best,
        )
        if run.position == (0, 0) and config.start_from is None:
            evaluate_epoch(run, evaluator, model, -1)
        require_epochs_left(run, config.epochs)

        card = aim_card(config, model.model)
        evaluation: Evaluation | None = None
        for epoch in run.epochs(config.epochs, first=first_epoch):
            loader.set_epoch(epoch)
            model.train()
            for batch in run.batches(loader):
                run.record(step(batch.images, batch.pids, batch.clothes_ids, epoch), batch)
            for schedule in schedules:
                schedule.step()
            if run.should_evaluate(epoch, config.epochs):
                evaluation = None  # the features of the one before
                evaluation = evaluate_epoch(run, evaluator, model, epoch)
                best.offer(evaluation, epoch, Weights(model.model.state_dict(), card))

        if config.select == "best":
            model.model.load_state_dict(best.weights())
            evaluation = None
        if evaluation is None:  # the weights are not those evaluated last
            evaluation = evaluator(model)
        if run.is_main:
            weights = Weights(model.model.state_dict(), card)
            leave_results(run, AIM_INFO, config, dataset, evaluation, weights, best)
        return run.folder


def order_images(config: AIMConfig, run: Run, samples: Sequence[Sample]) -> IdentityChunkSampler:
    """Return the official order of the training images."""
    pids = [sample.pid for sample in samples]
    return IdentityChunkSampler(
        pids, config.num_instances, config.run.seed, run.rank, run.world_size
    )


def build_model(config: AIMConfig, dataset: ReIDDataset, *, weights: str) -> AIM:
    """Build the network for the identities and outfits of a data set.

    Args:
        config: Backbone, pooling, last stride, kind of identity loss.
        dataset: The data set.
        weights: Start of the backbones, as ``config.model.weights``.
    """
    return AIM(
        dataset.num_pids,
        dataset.num_clothes,
        backbone=config.model.backbone,
        pooling=config.model.pooling,
        last_stride=config.model.last_stride,
        weights=weights,
        cosine_identity=config.loss.identity != "label_smoothing",
    )


def load_official(config: AIMConfig, model: AIM) -> int:
    """Load ``config.start_from`` if there is one; return the epoch to start at.

    The official code repeats the stored epoch and restarts the schedule when it resumes, which is
    a bug; here training goes on with the next epoch at its learning rate. Official files hold no
    optimiser state, so the moments start anew.
    """
    if config.start_from is None:
        return 0
    checkpoint = read_official(config.start_from)
    missing = [name for name in PARTS if name not in checkpoint.parts]
    if missing:
        raise CheckpointError(
            f"{config.start_from} lacks {', '.join(missing)}: it can be evaluated (aim-eval), but "
            "training cannot continue from it"
        )
    checkpoint.load_into(model)
    return next_epoch(config.start_from, checkpoint.epoch, config.epochs, evaluate="aim-eval")


def build_schedules(
    optimizers: AIMOptimizers, config: OptimConfig, first_epoch: int = 0
) -> tuple[LambdaLR, ...]:
    """Build the step schedules of the main and the clothing-branch optimiser.

    The clothes classifier keeps its initial rate (official): it starts to learn when the others
    have been slowed down already.
    """
    scheduled = (optimizers.main, optimizers.clothes_branch)
    return tuple(build_schedule(optimizer, config, first_epoch) for optimizer in scheduled)
