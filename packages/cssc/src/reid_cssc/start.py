"""Where the installed commands start: with the version of reid-core, before anything else of it."""

from __future__ import annotations

from reid_core.compatibility import checked_command

__all__ = ["embed", "evaluate", "export", "train"]

train = checked_command("reid-cssc", "reid_cssc.cli:train")
evaluate = checked_command("reid-cssc", "reid_cssc.cli:evaluate")
embed = checked_command("reid-cssc", "reid_cssc.cli:embed")
export = checked_command("reid-cssc", "reid_cssc.cli:export")
