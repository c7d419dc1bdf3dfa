"""How AIM is trained, from settings to a run folder. The recipe owns its loop."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR

from reid_aim import __version__
from reid_aim.config import AIMConfig
from reid_aim.model import AIM
from reid_aim.results import BestWeights, write_results
from reid_aim.step import AIMOptimizers, TrainingStep, build_optimizers
from reid_aim.weights import PARTS, read_official
from reid_core.commands.budget import open_plan, plan_training
from reid_core.commands.console import say
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import (
    Outcome,
    describe_dataset,
    describe_device,
    print_evaluation,
)
from reid_core.commands.same_data import require_same_data
from reid_core.config import DataConfig, OptimConfig, to_dict
from reid_core.data.augment import BatchAugment
from reid_core.data.loader import TrainLoader
from reid_core.data.opening import open_dataset, open_images
from reid_core.data.requirements import require_trainable
from reid_core.data.sample import ReIDDataset, pid2clothes
from reid_core.data.samplers import IdentityChunkSampler, check_batching
from reid_core.engine import Run, average_gradients
from reid_core.errors import CheckpointError, ConfigError
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.lookup import choose_protocols

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
    name = f"aim-{config.data.dataset}-{preset or 'run'}"
    with Run.start(
        config.run,
        method="aim",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=name,
    ) as run:
        show = partial(progress_bar, enabled=run.is_main)
        open_plan("training", config.run.memory_limit, run.device, run.world)
        with run.main_first(), show("drawing synthetic people") as progress:
            dataset = open_dataset(config.data, progress)
        require_trainable(dataset, clothes=True)
        require_same_data(run, dataset)
        pids = [sample.pid for sample in dataset.train]
        check_batching(pids, config.batch_size, config.num_instances, run.world_size)
        preset, command = run.origin["preset"], run.origin["command"]
        if run.is_main:
            say(f"AIM on {describe_dataset(dataset)}")
            say(f"preset {preset}, {describe_device(run.device)}, run folder {run.folder}")
        protocols = choose_protocols(dataset, config.protocols)
        with torch.device("meta"):
            outline = build_model(config, dataset, weights="none")
        places = plan_training(
            run,
            outline,
            dataset,
            protocols,
            config.data,
            limit=config.run.memory_limit,
            batch_size=config.batch_size,
            moments=1 if config.optim.name == "sgd" else 2,
            crop_scale=_crop_scale(config),
        )
        evaluator = build_evaluator(config, dataset, protocols, places.test, run)
        loader = build_loader(config, dataset, places.train, run)
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
        best = BestWeights(run, config)
        run.track(
            **dict(model.named_children()),
            optimizer_main=optimizers.main,
            optimizer_clothes_branch=optimizers.clothes_branch,
            optimizer_clothes_classifier=optimizers.clothes_classifier,
            schedule_main=schedules[0],
            schedule_clothes_branch=schedules[1],
            best=best,
        )

        def evaluate(epoch: int) -> Evaluation:
            found = evaluator(model.embed)
            run.log_evaluation(epoch, found.summary())
            if run.is_main:
                print_evaluation("untrained" if epoch < 0 else f"epoch {epoch + 1}", found)
            return found

        if run.position == (0, 0) and config.start_from is None:
            evaluate(-1)

        if run.position.epoch > config.epochs:
            raise ConfigError(
                f"the run in {run.folder} has finished {run.position.epoch} epochs, and "
                f"epochs={config.epochs}; leave --epochs out, or give a larger number"
            )
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
                evaluation = evaluate(epoch)
                best.offer(evaluation, epoch, model.model)

        if config.select == "best":
            best.load_into(model.model)
            evaluation = None
        if evaluation is None:  # the weights are not those evaluated last
            evaluation = evaluator(model.embed)
        if run.is_main:
            outcome = Outcome(
                evaluation=evaluation,
                stage="trained",
                dataset=dataset,
                details={
                    "preset": preset,
                    "seed": config.run.seed,
                    "epochs": config.epochs,
                    "selected": config.select,
                    "best_on_test": best.state_dict(),
                },
                facts={
                    "preset": preset,
                    "weights": "last epoch"
                    if config.select == "last"
                    else f"best on the TEST set (epoch {best.state_dict()['epoch'] + 1})",
                    "device": describe_device(run.device),
                },
                config=to_dict(config),
                command=command,
            )
            write_results(run, outcome, model.model, config)
        return run.folder


def build_evaluator(
    config: AIMConfig,
    dataset: ReIDDataset,
    protocols: Sequence[Protocol],
    data: DataConfig,
    run: Run,
) -> Evaluator:
    """Decode the test images, so that bad ones are found before training.

    All of the data set's splits are needed at the end; a run that would fail there fails here.
    """
    evaluator = Evaluator(
        dataset,
        protocols,
        data,
        device=run.device,
        world=run.world,
        mean=config.augment.mean,
        std=config.augment.std,
    )
    with progress_bar("reading test images", enabled=run.is_main) as progress:
        evaluator.open_images(progress)
    return evaluator


def build_loader(
    config: AIMConfig, dataset: ReIDDataset, data: DataConfig, run: Run
) -> TrainLoader:
    """Decode the training images once and arrange the official batches."""
    show = progress_bar("reading training images", enabled=run.is_main)
    with run.main_first(), show as progress:
        images = open_images(
            dataset.train,
            data,
            crop_scale=_crop_scale(config),
            num_processes=run.world_size,
            progress=progress,
        )
    samples = images.select(dataset.train)
    sampler = IdentityChunkSampler(
        [sample.pid for sample in samples],
        config.num_instances,
        config.run.seed,
        run.rank,
        run.world_size,
    )
    return TrainLoader(
        images,
        samples,
        sampler,
        BatchAugment(config.augment, data.height, data.width),
        batch_size=config.batch_size,
        device=run.device,
        seed=config.run.seed,
        rank=run.rank,
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
    first_epoch = 0 if checkpoint.epoch is None else checkpoint.epoch + 1
    if first_epoch >= config.epochs:
        raise ConfigError(
            f"{config.start_from} has finished epoch {first_epoch}, and epochs={config.epochs}: "
            f"nothing is left to train; use --epochs above {first_epoch}, or aim-eval"
        )
    return first_epoch


def build_schedules(
    optimizers: AIMOptimizers, config: OptimConfig, first_epoch: int = 0
) -> tuple[LambdaLR, ...]:
    """Build the step schedules of the main and the clothing-branch optimiser.

    The clothes classifier keeps its initial rate (official): it starts to learn when the others
    have been slowed down already.
    """

    def factor(epoch: int) -> float:
        return config.gamma ** bisect_right(config.milestones, epoch)

    schedules = []
    for optimizer in (optimizers.main, optimizers.clothes_branch):
        for group in optimizer.param_groups:
            group["initial_lr"] = config.lr
        schedules.append(LambdaLR(optimizer, factor, last_epoch=first_epoch - 1))
    return tuple(schedules)


def _crop_scale(config: AIMConfig) -> float | None:
    """Return the factor of the enlarged training images that random crops are cut from, if any."""
    return config.augment.crop_scale if config.augment.crop_prob else None
