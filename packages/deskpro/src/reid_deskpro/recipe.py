"""How DeskPro is trained (stage 2), from settings to a run folder. The recipe owns its loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from reid_core.commands.console import say
from reid_core.commands.training_data import open_decoded_images, open_training_data
from reid_core.commands.training_results import (
    evaluate_epoch,
    leave_results,
    next_epoch,
    require_epochs_left,
)
from reid_core.config import to_dict
from reid_core.data.batching import check_distinct_batching
from reid_core.data.sample import ReIDDataset
from reid_core.engine import Run, Weights, average_gradients, broadcast_object, seed_everything
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_deskpro import __version__
from reid_deskpro.batches import PictureLoader
from reid_deskpro.best import BestStreams
from reid_deskpro.config import DeskProConfig
from reid_deskpro.loading import build_network, deskpro_card
from reid_deskpro.model import DeskPro
from reid_deskpro.prepared import (
    describe_prepared,
    identities_of,
    keep_prepared,
)
from reid_deskpro.pretrained import find_osnet
from reid_deskpro.results import DESKPRO_INFO, compare_streams
from reid_deskpro.stage import (
    build_optimizer_of,
    build_schedule_of,
    open_companions,
    order_images,
)
from reid_deskpro.step import TrainingStep
from reid_deskpro.teacher import TEACHER_FOLDER, TEACHER_NAME, train_inside
from reid_deskpro.teacher_weights import Teacher, read_teacher
from reid_deskpro.weights import read_official

__all__ = ["companions_to_train", "find_teacher", "train"]


def train(
    config: DeskProConfig, *, preset: str = "", command: str = "", resume: bool = False
) -> Path:
    """Train DeskPro, its teacher first where none is given, and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: config.json, metrics.jsonl, TensorBoard events, last.pt, model.safetensors
        (the streams, without classifiers and teacher) with its card, results.json and report.html.

    Raises:
        ReIDError: When data, settings or weights cannot be used, or a loss is not finite.
    """
    with Run.start(
        config.run,
        method="deskpro",
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        may_change=("data.prepared",),
        name=f"deskpro-{config.data.dataset}-{preset or 'run'}",
    ) as run:
        given = read_given_teacher(run, config)  # found missing before any data are opened
        config = replace(config, data=open_companions(run, config.data))
        whole = open_training_data(run, config, title="DeskPro")
        dataset = keep_prepared(whole)
        if run.is_main:
            say(describe_prepared(whole, dataset))
        pids = [sample.pid for sample in dataset.train]
        check_distinct_batching(pids, config.batch_size, config.num_instances, run.world_size)
        if not run.resumed:  # found missing before all images are read, and a teacher is trained
            find_osnet(config.model.weights, width=config.model.width)
        with torch.device("meta"):
            outline = build_network(config, dataset.num_pids, weights="none")
        evaluator, loader = open_images(run, config, dataset, outline)
        teacher = find_teacher(run, config, whole, given)
        # What follows does not depend on whether a teacher was trained here before.
        seed_everything(config.run.seed, run.rank)
        with run.main_first():
            start = "none" if run.resumed else config.model.weights
            model = build_network(config, dataset.num_pids, weights=start).to(run.device)
        if teacher is not None:
            teacher.load_into(model)
        optimizer = build_optimizer_of(model, config)
        first_epoch = 0 if run.resumed else load_official(config, model)
        schedule = build_schedule_of(optimizer, config, first_epoch)
        step = TrainingStep(
            model,
            config.loss,
            optimizer,
            autocast=run.autocast,
            synchronize=average_gradients,
        )
        best = BestStreams(run, tuple(model.part_groups))
        run.track(
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            best=best,
        )
        if run.position == (0, 0) and config.start_from is None:
            evaluate_epoch(run, evaluator, model, -1)
        require_epochs_left(run, config.epochs)

        card = deskpro_card(config, model)
        evaluation: Evaluation | None = None
        for epoch in run.epochs(config.epochs, first=first_epoch):
            loader.set_epoch(epoch)
            model.train()
            for batch in run.batches(loader):
                run.record(step(batch), batch)
            schedule.step()
            if run.should_evaluate(epoch, config.epochs):
                evaluation = None  # the features of the one before
                evaluation = evaluate_epoch(run, evaluator, model, epoch)
                best.offer(evaluation, epoch, Weights(model.inference_state(), card))

        if evaluation is not None and broadcast_object(best.is_of(config.epochs - 1)):
            best.note(evaluation)
        else:
            evaluation = None
            evaluation = evaluate_finally(config, model, evaluator, best)
        if run.is_main:
            facts = compare_streams(evaluation)
            for protocol, sentence in facts.items():
                say(f"{protocol}: {sentence}")
            weights = Weights(model.inference_state(), card)
            leave_results(
                run, DESKPRO_INFO, config, dataset, evaluation, weights, best, facts=facts
            )
        return run.folder


def companions_to_train(config: DeskProConfig) -> dict[str, tuple[int, int]]:
    """Return what a training reads beside the images, with height and width in pixels."""
    model, data = config.model, config.data
    face, body = (model.face_height, model.face_width), (data.height, data.width)
    sizes = {}
    if model.mode != "body":
        sizes["lr_face"] = face
    if config.uses_teacher:
        sizes["hr_face"] = face
    if model.mode != "face":
        sizes["mask"] = body
    return sizes


def open_images(
    run: Run, config: DeskProConfig, dataset: ReIDDataset, outline: DeskPro
) -> tuple[Evaluator, PictureLoader]:
    """Decode all images and companions once; return the evaluator and the training batches."""
    opened = open_decoded_images(
        run,
        config,
        dataset,
        outline,
        batch_size=config.batch_size,
        moments=2,
        companions=companions_to_train(config),
    )
    loader = PictureLoader(
        opened.images,
        opened.companions,
        opened.samples,
        order_images(config, run, opened.samples),
        config.augment,
        batch_size=config.batch_size,
        device=run.device,
        seed=config.run.seed,
        rank=run.rank,
    )
    return opened.evaluator, loader


def read_given_teacher(run: Run, config: DeskProConfig) -> Teacher | None:
    """Return the teacher that ``config.teacher`` names; None where none is named or needed.

    Raises:
        CheckpointError: The file cannot be used.
    """
    if config.teacher == "auto" or not needs_teacher(run, config):
        return None
    return read_teacher(Path(config.teacher))


def needs_teacher(run: Run, config: DeskProConfig) -> bool:
    """Tell whether there is distillation, and no state to go on from that holds a teacher."""
    return config.uses_teacher and not run.resumed and config.start_from is None


def find_teacher(
    run: Run, config: DeskProConfig, whole: ReIDDataset, given: Teacher | None
) -> Teacher | None:
    """Return the teacher of a new run, trained now where none is given.

    Args:
        run: The run.
        config: Its settings.
        whole: Its data, with companions.
        given: From ``read_given_teacher``.

    Returns:
        The teacher; None where there is no distillation, or the run goes on from a state that
        holds one.

    Raises:
        CheckpointError: It is of other identities, or the one in the folder cannot be used.
    """
    if not needs_teacher(run, config):
        return None
    teacher = given
    if teacher is None:
        if not (path := run.folder / TEACHER_FOLDER / TEACHER_NAME).is_file():
            path = train_inside(run, config, whole)
        with run.main_first():  # process 0 may just have written it
            teacher = read_teacher(path)
    teacher.require_identities(identities_of(keep_prepared(whole)))
    if run.is_main:
        say(f"teacher {teacher.source}, of {teacher.num_pids:,} people")
    return teacher


def load_official(config: DeskProConfig, model: DeskPro) -> int:
    """Load ``config.start_from`` if there is one; return the epoch to start at.

    The optimiser starts anew: the official code never goes on from its files.
    """
    if config.start_from is None:
        return 0
    checkpoint = read_official(config.start_from)
    checkpoint.load_into(model)
    return next_epoch(config.start_from, checkpoint.epoch, config.epochs, evaluate="deskpro-eval")


def evaluate_finally(
    config: DeskProConfig, model: DeskPro, evaluator: Evaluator, best: BestStreams
) -> Evaluation:
    """Evaluate the best streams together, and leave the weights that were asked for.

    Returns:
        The evaluation of these weights. Those of one evaluation at a time are in memory.
    """
    last = {key: value.clone() for key, value in model.inference_state().items()}
    # The classifiers stay the last epoch's; nothing looks at them any more.
    model.load_state_dict({**model.state_dict(), **best.weights()})
    evaluation = evaluator(model)
    best.note(evaluation)
    if config.select == "best":
        return evaluation
    del evaluation
    model.load_state_dict({**model.state_dict(), **last})
    return evaluator(model)
