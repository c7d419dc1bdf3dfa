"""How the teacher of the face stream is trained (stage 1), from settings to ``teacher.pth``.

The authors released no program for it; this follows from the structure of theirs: the network of
the face stream on restored faces, with the batches, losses, schedule and labels of stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reid_core.commands.best import BestWeights
from reid_core.commands.console import say
from reid_core.commands.same_data import require_same_data
from reid_core.commands.training_data import open_decoded_images, open_training_data
from reid_core.commands.training_results import (
    evaluate_epoch,
    leave_results,
    require_epochs_left,
)
from reid_core.config import to_dict
from reid_core.data.batching import check_distinct_batching
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine import Run, Weights, average_gradients, broadcast_object
from reid_core.engine.folder import CONFIG_NAME
from reid_core.errors import ProtocolError
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_core.evaluation.protocols.lookup import choose_protocols
from reid_deskpro import __version__
from reid_deskpro.batches import PictureLoader
from reid_deskpro.config import DeskProConfig, TeacherConfig, teacher_of
from reid_deskpro.lmbn import LMBN
from reid_deskpro.prepared import (
    describe_prepared,
    identities_of,
    keep_prepared,
)
from reid_deskpro.pretrained import find_osnet
from reid_deskpro.results import TEACHER_INFO
from reid_deskpro.stage import (
    build_optimizer_of,
    build_schedule_of,
    open_companions,
    order_images,
)
from reid_deskpro.step import TeacherStep
from reid_deskpro.teacher_weights import save_teacher

__all__ = ["TEACHER_FOLDER", "TEACHER_NAME", "restored_faces", "train", "train_inside"]

TEACHER_NAME = "teacher.pth"
"""File in the folder of a teacher's training that stage 2 reads."""

TEACHER_FOLDER = "teacher"
"""Folder of a teacher that is trained first, in the folder of the run that needs it."""

_METHOD = "deskpro-teacher"


def train(
    config: TeacherConfig, *, preset: str = "", command: str = "", resume: bool = False
) -> Path:
    """Train a teacher and leave a run folder.

    Args:
        config: All settings; ``config.run.out`` is the folder to continue when resuming.
        preset: Name of the preset, for the folder's name and the report.
        command: Command line, for the report.
        resume: Continue the run in ``config.run.out``.

    Returns:
        The run folder: ``teacher.pth`` beside what every run leaves; without restored faces of test
        images, there are no results.

    Raises:
        ReIDError: When data, settings or weights cannot be used, or a loss is not finite.
    """
    name = f"{_METHOD}-{config.data.dataset}-{preset or 'run'}"
    origin = {"preset": preset, "command": command}
    with _start(config, origin, resume=resume, name=name) as run:
        config = replace(config, data=open_companions(run, config.data))
        whole = open_training_data(run, config, title="DeskPro's teacher")
        dataset = keep_prepared(whole)
        if run.is_main:
            say(describe_prepared(whole, dataset))
        return _train(run, config, dataset)


def train_inside(run: Run, config: DeskProConfig, whole: ReIDDataset) -> Path:
    """Train the teacher of a run first, in its folder; go on where that was stopped.

    Args:
        run: The run.
        config: Its settings.
        whole: Its data, with companions.

    Returns:
        The teacher's file.

    Raises:
        ReIDError: As ``train``.
    """
    folder = run.folder / TEACHER_FOLDER
    own = teacher_of(config)
    own = replace(own, run=replace(own.run, out=folder))
    resume = broadcast_object((folder / CONFIG_NAME).is_file())
    with _start(own, run.origin, resume=resume, name=_METHOD) as inner:
        require_same_data(inner, whole)
        if run.is_main:
            say(f"first the teacher: {own.epochs} epochs on restored faces, in {folder}")
        return _train(inner, own, keep_prepared(whole)) / TEACHER_NAME


def restored_faces(dataset: ReIDDataset) -> ReIDDataset:
    """Return the data set of the restored faces, with the labels of their images.

    Args:
        dataset: With companions; images without a restored face are left out, and so are splits
            that have none.
    """
    found: dict[str, list[Sample]] = {}
    for name, samples in dataset.splits.items():
        faces = [
            replace(sample, path=sample.extra["hr_face"])
            for sample in samples
            if "hr_face" in sample.extra
        ]
        if faces:
            found[name] = faces
    return replace(dataset, splits=found)


def _start(config: TeacherConfig, origin: Mapping[str, Any], *, resume: bool, name: str) -> Run:
    return Run.start(
        config.run,
        method=_METHOD,
        version=__version__,
        config=to_dict(config),
        origin=origin,
        resume=resume,
        may_change=("data.prepared",),
        name=name,
    )


def _train(run: Run, config: TeacherConfig, dataset: ReIDDataset) -> Path:
    """Train on the restored faces of a data set's training images; return the run's folder."""
    faces, identities = restored_faces(dataset), identities_of(dataset)
    height, width = config.model.face_height, config.model.face_width
    config = replace(config, data=replace(config.data, height=height, width=width))
    if not run.resumed:  # found missing before all images are read
        find_osnet(config.model.weights, width=config.model.width)
    evaluator, loader = _open_faces(run, config, faces)
    with run.main_first():
        start = "none" if run.resumed else config.model.weights
        model = _build(config, len(identities), weights=start).to(run.device)
    optimizer = build_optimizer_of(model, config)
    schedule = build_schedule_of(optimizer, config)
    step = TeacherStep(
        model,
        config.loss,
        optimizer,
        autocast=run.autocast,
        synchronize=average_gradients,
    )
    best = BestWeights(run, _METHOD, keep=config.select == "best")
    run.track(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        best=best,
    )
    if evaluator is not None and run.position == (0, 0):
        evaluate_epoch(run, evaluator, model, -1, label="untrained teacher")
    require_epochs_left(run, config.epochs)

    card = {"method": _METHOD, "version": __version__}
    evaluation: Evaluation | None = None
    for epoch in run.epochs(config.epochs):
        loader.set_epoch(epoch)
        model.train()
        for batch in run.batches(loader):
            run.record(step(batch.images, batch.pids), batch)
        schedule.step()
        if evaluator is not None and run.should_evaluate(epoch, config.epochs):
            evaluation = None  # the features of the one before
            label = f"teacher, epoch {epoch + 1}"
            evaluation = evaluate_epoch(run, evaluator, model, epoch, label=label)
            best.offer(evaluation, epoch, Weights(model.state_dict(), card))

    if evaluator is not None and config.select == "best":
        model.load_state_dict(best.weights())
        evaluation = None
    if evaluator is not None and evaluation is None:  # the weights are not those evaluated last
        evaluation = evaluator(model)
    if run.is_main:
        facts = {
            "dataset": dataset.name,
            "synthetic": dataset.synthetic,
            "version": __version__,
            "config": to_dict(config),
            "results": {} if evaluation is None else evaluation.summary(),
        }
        path = run.folder / TEACHER_NAME
        save_teacher(path, model, identities=identities, facts=facts)
        if evaluation is not None:
            weights = Weights(model.inference_state(), card)
            leave_results(run, TEACHER_INFO, config, faces, evaluation, weights, best)
        say(f"wrote {path}")
    return run.folder


def _open_faces(
    run: Run, config: TeacherConfig, faces: ReIDDataset
) -> tuple[Evaluator | None, PictureLoader]:
    """Decode the restored faces; return evaluator, where they can be compared, and batches."""
    pids = [sample.pid for sample in faces.train]
    check_distinct_batching(pids, config.batch_size, config.num_instances, run.world_size)
    evaluates = _can_be_evaluated(faces, config)
    if run.is_main and not evaluates:
        say("the teacher is not evaluated: the test images have no restored faces to compare")
    with torch.device("meta"):
        outline = _build(config, faces.num_pids, weights="none")
    opened = open_decoded_images(
        run,
        config,
        faces,
        outline,
        batch_size=config.batch_size,
        moments=2,
        evaluates=evaluates,
    )
    loader = PictureLoader(
        opened.images,
        {},
        opened.samples,
        order_images(config, run, opened.samples),
        config.augment,
        batch_size=config.batch_size,
        device=run.device,
        seed=config.run.seed,
        rank=run.rank,
    )
    return opened.evaluator if evaluates else None, loader


def _build(config: TeacherConfig, num_pids: int, *, weights: str) -> LMBN:
    model = config.model
    return LMBN(num_pids, width=model.width, variant=model.osnet, weights=weights)


def _can_be_evaluated(faces: ReIDDataset, config: TeacherConfig) -> bool:
    """Tell whether the restored faces of test images can be compared.

    Raises:
        ProtocolError: A protocol that was asked for cannot be used.
    """
    try:
        choose_protocols(faces, config.protocols)
    except ProtocolError:
        if config.protocols:
            raise
        return False
    return True
