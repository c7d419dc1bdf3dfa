"""The command ``deskpro-prepare``. Parsing imports neither torch nor NumPy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from reid_core.cli import parse, run_command
from reid_deskpro.prepare.config import PrepareConfig

if TYPE_CHECKING:
    from reid_deskpro.prepare.recipe import Preparation

__all__ = ["main"]

_PROG = "deskpro-prepare"
_DESCRIPTION = """Make the masks, face crops and restored faces that DeskPro is trained on.

Each comes from what another program made of your images, and each may be added later:
  --parsing   label maps of human parsing -> masks, and face crops where the heads are
  --faces     boxes of a face detector (or ready crops) -> face crops
  --restored  restored faces, made of OUT/lr_face by any face restorer

Training needs all three, evaluation face crops alone. What is done is not done again."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``deskpro-prepare`` with ``argv`` (default: the process's arguments)."""
    args = sys.argv[1:] if argv is None else list(argv)

    def run() -> None:
        config = parse(_PROG, args, PrepareConfig, None, _DESCRIPTION)
        from reid_core.commands.console import say
        from reid_core.commands.progress import named_progress
        from reid_deskpro.prepare.recipe import check_prepared, prepare

        if config.check is not None:
            with named_progress() as progress:
                report = check_prepared(config, progress=progress)
            say(report.format())
            if not report.healthy:
                raise SystemExit(1)
            return
        with named_progress() as progress:
            preparation = prepare(config, progress=progress)
        for line in _describe(preparation):
            say(line)

    run_command(_PROG, run)


def _describe(preparation: Preparation) -> list[str]:
    """Return what was done and what there is, in lines."""
    from reid_deskpro.prepare.sheet import SHEET_NAME

    title = " (synthetic images)" if preparation.dataset.synthetic else ""
    lines = [f"{preparation.dataset.name}{title} prepared in {preparation.folder}", ""]
    lines += [preparation.census.format(), ""]
    for step, reasons in preparation.missing.items():
        if reasons:
            shown = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
            lines.append(f"no {step}: {shown}")
    work = ", ".join(f"{step} {count:,}" for step, count in preparation.done.items())
    lines.append(f"images worked on in this run: {work}")
    sheet = preparation.folder / SHEET_NAME
    if sheet.is_file():
        lines.append(f"look at {sheet}")
    if preparation.official is not None:
        lines.append(f"official layout in {preparation.official}")
    lines.append(f"check it with: {_PROG} --check {preparation.folder}")
    return lines
