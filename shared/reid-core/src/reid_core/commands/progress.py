"""Progress of the parts around training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["named_progress", "progress_bar"]

_LINE_SECONDS = 10.0


@contextmanager
def progress_bar(what: str, *, enabled: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is.

    Args:
        what: What is done, e.g. ``reading images``.
        enabled: False on all processes but the first.

    Yields:
        A function to call with (done, total), from one thread.
    """
    with named_progress(what, enabled=enabled) as show:
        yield partial(show, what)


@contextmanager
def named_progress(
    first: str = "", *, enabled: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far work is that has several parts, one after the other.

    Args:
        first: What is done at first, as far as it is known.
        enabled: False on all processes but the first.

    Yields:
        A function to call with (what is done, done, total), from one thread.
    """
    console = rich.get_console()
    if not enabled:
        yield lambda what, done, total: None
    elif console.is_terminal or console.is_jupyter:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(first, total=None)
            yield lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            )
    else:
        next_line = 0.0  # the first call makes a line, so that the start is never silent

        def show(what: str, done: int, total: int) -> None:
            nonlocal next_line
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + _LINE_SECONDS
                console.print(f"{what}: {done:,} of {total:,}", highlight=False)

        yield show
