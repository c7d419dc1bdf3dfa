"""How IICS is trained, from settings to a run folder. The recipe owns its loop.

A cycle: cluster each camera, train with one head per camera; cluster all images by features and by
what those heads say of them, train with one head. The backbone alone is kept from stage to stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reid_core.commands.best import BestWeights
from reid_core.commands.console import say
from reid_core.commands.training_data import DecodedImages, open_decoded_images, open_training_data
from reid_core.commands.training_results import evaluate_epoch, leave_results
from reid_core.commands.training_settings import Rounds
from reid_core.config import to_dict
from reid_core.data.loader import Batch, TrainLoader
from reid_core.data.sample import ReIDDataset
from reid_core.engine import Run, Weights, average_gradients
from reid_core.errors import ConfigError
from reid_core.evaluation.evaluator import Evaluation
from reid_iics import __version__
from reid_iics.batches import inter_loader, intra_loader
from reid_iics.config import IICSConfig
from reid_iics.cycle import Place, find_place
from reid_iics.labelling import Labeller, add_labelling
from reid_iics.loading import build_network, iics_card
from reid_iics.model import IICS
from reid_iics.results import info_of
from reid_iics.stage import Stage
from reid_iics.step import InterStep, IntraStep
from reid_iics.weights import read_official

__all__ = ["train"]

_WARMUP_FACTOR = 0.1  # official: of the loss in the cycles of --warm_up

Terms = dict[str, Tensor]


def train(config: IICSConfig, *, preset: str = "", command: str = "", resume: bool = False) -> Path:
    """Train IICS and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: config.json, metrics.jsonl, TensorBoard events, last.pt, model.safetensors
        (the backbone) with its card, results.json and report.html.

    Raises:
        ReIDError: When data, settings or weights cannot be used, images cannot be clustered, or a
            loss is not finite.
    """
    with Run.start(
        config.run,
        method="iics",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=f"iics-{config.data.dataset}-{preset or config.variant}",
    ) as run:
        dataset = sort_training_images(
            open_training_data(run, config, title="IICS", identities=False)
        )
        opened = open_images(run, config, dataset)
        labeller = Labeller(run, config, opened.images, opened.samples)
        with run.main_first():  # start weights are downloaded once
            start = "none" if run.resumed else config.model.weights
            model = build_network(config, weights=start).to(run.device)
        first_epoch = 0 if run.resumed else load_official(config, model)
        stage = Stage(model, config)
        rounds = Rounds("cycle", config.epochs_per_cycle)
        best = BestWeights(run, "iics", keep=config.select == "best", rounds=rounds)
        run.track(model=model, stage=stage, best=best)
        evaluates = bool(opened.evaluator.protocols)
        if evaluates and not run.resumed and config.start_from is None:
            evaluate_epoch(run, opened.evaluator, model, -1)

        card = iics_card(config, model)
        # None until the weights that are left have been evaluated.
        nothing = Evaluation(samples={}, features={}, results=())
        evaluation = None if evaluates else nothing
        work: _Work | None = None
        for epoch in run.epochs(config.epochs, first=first_epoch):
            place = find_place(epoch, config.intra.epochs, config.inter.epochs)
            if stage.first != place.first:  # otherwise a stopped run goes on inside the stage
                work = None
                labels = labeller(model, stage, place)
                stage.begin(place, labels, num_images=len(opened.samples))
                run.save()
            work = work or open_stage(run, config, opened, model, stage, place)
            work.loader.set_epoch(epoch)
            model.train()
            stage.heads.train()
            for batch in run.batches(work.loader):
                run.record(work.step(batch), batch)
            ends_cycle = place.ends_cycle and run.should_evaluate(place.cycle, config.cycles)
            if evaluates and ends_cycle:
                evaluation = None  # the features of the one before
                label = f"cycle {place.cycle + 1}"
                evaluation = evaluate_epoch(run, opened.evaluator, model, epoch, label=label)
                best.offer(evaluation, epoch, Weights(model.state_dict(), card))

        if config.select == "best":
            model.load_state_dict(best.weights())
            evaluation = None
        if evaluation is None:  # the weights are not those evaluated last
            evaluation = opened.evaluator(model)
        if run.is_main:
            weights = Weights(model.state_dict(), card)
            info = info_of(config.variant, rerank=config.rerank)
            leave_results(run, info, config, dataset, evaluation, weights, best, rounds=rounds)
        return run.folder


class _Work(NamedTuple):
    """What an epoch of a stage does.

    Attributes:
        loader: Of its batches.
        step: From a batch to an update and the terms of the loss.
    """

    loader: TrainLoader
    step: Callable[[Batch], Terms]


def sort_training_images(dataset: ReIDDataset) -> ReIDDataset:
    """Return the data set with its training images sorted by camera, then by name.

    Heads are numbered and distances are stored in this order; the official one, by permuted
    identities, needs identities and depends on the seed.
    """
    train = sorted(dataset.train, key=lambda sample: (sample.camid, sample.path.name, sample.path))
    return replace(dataset, splits={**dataset.splits, "train": train})


def can_evaluate(config: IICSConfig, dataset: ReIDDataset) -> bool:
    """Tell whether there are test images: people may have no identities at all.

    Raises:
        ConfigError: When there are none and the weights are to be chosen by them.
    """
    if config.protocols or any(dataset.splits[name] for name in dataset.splits if name != "train"):
        return True
    if config.select == "best":
        raise ConfigError(
            f"select=best chooses weights on the test set, and {dataset.name} in {dataset.root} "
            "has no query and gallery images; use --select last, or add such images"
        )
    return False


def open_images(run: Run, config: IICSConfig, dataset: ReIDDataset) -> DecodedImages:
    """Decode all images once for the whole run, with the memory of all stages looked at before."""
    with torch.device("meta"):
        outline = build_network(config, weights="none")
    camids = [sample.camid for sample in dataset.train]
    evaluates = can_evaluate(config, dataset)
    if not evaluates and run.is_main:
        say("no query and gallery images of known people: the network is not evaluated")
    return open_decoded_images(
        run,
        config,
        dataset,
        outline,
        batch_size=config.inter.batch_size,
        moments=1,
        evaluates=evaluates,
        add_parts=partial(
            add_labelling,
            config=config,
            camids=camids,
            embedding_dim=outline.embedding_dim,
            device=run.device,
        ),
    )


def open_stage(
    run: Run,
    config: IICSConfig,
    opened: DecodedImages,
    model: IICS,
    stage: Stage,
    place: Place,
) -> _Work:
    """Return loader and iteration of the stage that an epoch belongs to.

    Raises:
        CheckpointError: When a stopped run would go on with labels of other images.
    """
    stage.require_images(len(opened.samples))
    factor = _WARMUP_FACTOR if place.cycle < config.warmup_cycles else 1.0
    if stage.name == "intra":
        intra = IntraStep(
            model,
            stage.heads,
            stage.optimizer,
            loss_factor=factor,
            autocast=run.autocast,
            synchronize=average_gradients,
        )
        loader = intra_loader(run, config, opened.images, opened.samples, stage.labels)
        return _Work(loader, partial(_train_intra, intra, config.intra.batch_size))
    inter = InterStep(
        model,
        next(iter(stage.heads)),
        stage.optimizer,
        margin=config.inter.margin,
        loss_factor=factor,
        autocast=run.autocast,
        synchronize=average_gradients,
    )
    loader = inter_loader(run, config, opened.images, opened.samples, stage.labels[0])
    return _Work(loader, partial(_train_inter, inter))


def load_official(config: IICSConfig, model: IICS) -> int:
    """Load ``config.start_from`` if there is one; return the epoch to start at.

    Nothing else is carried over from cycle to cycle, so the training goes on as the official one
    would.

    Raises:
        ConfigError: When nothing is left to train.
        CheckpointError: When it cannot be used.
    """
    if config.start_from is None:
        return 0
    checkpoint = read_official(config.start_from)
    checkpoint.load_into(model)
    finished = checkpoint.cycles or 0
    if finished >= config.cycles:
        raise ConfigError(
            f"{config.start_from} has finished {finished} cycles, and cycles={config.cycles}: "
            f"nothing is left to train; use --cycles above {finished}, or iics-eval"
        )
    return finished * config.epochs_per_cycle


def _train_intra(step: IntraStep, batch_size: int, batch: Batch) -> Terms:
    terms = step(torch.split(batch.images, batch_size), torch.split(batch.pids, batch_size))
    return _named(terms, "intra")


def _train_inter(step: InterStep, batch: Batch) -> Terms:
    terms = step(batch.images, batch.pids)
    terms["acc_tri"] = terms.pop("precision")
    return _named(terms, "inter")


def _named(terms: Terms, stage: str) -> Terms:
    """Return terms under names that tell the stages apart: ``loss_inter_tri`` for ``loss_tri``."""
    return {
        name.replace("_", f"_{stage}_", 1) if "_" in name else f"{name}_{stage}": value
        for name, value in terms.items()
    }
