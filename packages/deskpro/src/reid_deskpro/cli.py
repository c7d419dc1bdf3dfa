"""The commands ``deskpro-train``, ``-eval``, ``-embed``, ``-export``, ``-teacher``, ``-prepare``.

Parsing imports no torch; the work is imported when the arguments are known to be good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from reid_core.commands.entry import Method, run_training
from reid_deskpro.config import DATASETS, PRESETS, TEACHER_PRESETS, DeskProConfig, TeacherConfig
from reid_deskpro.official_settings import (
    EVALUATE_FLAGS,
    TEACHER_FLAGS,
    TRAIN_FLAGS,
    take_official_settings,
)

__all__ = ["embed", "evaluate", "export", "prepare", "teacher", "train"]

_COMMANDS = Method(
    name="deskpro",
    title="DeskPro",
    config_type=DeskProConfig,
    presets=PRESETS,
    datasets=DATASETS,
    train_flags=TRAIN_FLAGS,
    evaluate_flags=EVALUATE_FLAGS,
    combine_flags=take_official_settings,
    recipe="reid_deskpro.recipe:train",
    loader="reid_deskpro.loading:load_network",
    info="reid_deskpro.results:DESKPRO_INFO",
    official_export="reid_deskpro.loading:export_official",
    complete="reid_deskpro.prepared:complete_arguments",
)
train = _COMMANDS.train
evaluate = _COMMANDS.evaluate
embed = _COMMANDS.embed
export = _COMMANDS.export


def teacher(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``deskpro-teacher``; ``argv`` defaults to the process's arguments."""
    run_training(
        "deskpro-teacher",
        argv,
        config_type=TeacherConfig,
        presets=TEACHER_PRESETS,
        datasets=DATASETS,
        flags=TEACHER_FLAGS,
        combine_flags=take_official_settings,
        recipe="reid_deskpro.teacher:train",
        description="Train the teacher of DeskPro's face stream on restored faces, and leave "
        "teacher.pth.",
    )


def prepare(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``deskpro-prepare``; ``argv`` defaults to the process's arguments."""
    from reid_deskpro.prepare.command import main

    main(argv)
