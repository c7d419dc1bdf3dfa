"""Where the installed commands start: with the version of reid-core, before anything else of it."""

from __future__ import annotations

from reid_core.compatibility import checked_command

__all__ = ["embed", "evaluate", "export", "prepare", "teacher", "train"]

train = checked_command("reid-deskpro", "reid_deskpro.cli:train")
evaluate = checked_command("reid-deskpro", "reid_deskpro.cli:evaluate")
embed = checked_command("reid-deskpro", "reid_deskpro.cli:embed")
export = checked_command("reid-deskpro", "reid_deskpro.cli:export")
prepare = checked_command("reid-deskpro", "reid_deskpro.cli:prepare")
teacher = checked_command("reid-deskpro", "reid_deskpro.cli:teacher")
