"""Lines for people on standard output."""

from __future__ import annotations

import rich

__all__ = ["say"]


def say(text: str) -> None:
    """Print one line as it is: brackets in paths are no markup, and long lines are not broken."""
    rich.get_console().print(text, markup=False, highlight=False, soft_wrap=True)
