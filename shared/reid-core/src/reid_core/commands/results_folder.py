"""The folder of an evaluation's results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reid_core.engine.distributed import World, main_first
from reid_core.engine.folder import RunFolder, discard_unused
from reid_core.errors import ReIDError

__all__ = ["results_folder"]


@contextmanager
def results_folder(out: Path | None, name: str, world: World) -> Iterator[Path | None]:
    """Hold the folder of an evaluation's results; None on all processes but the first.

    When the evaluation fails, a folder in which nothing was written is removed.
    """
    with main_first(world), ExitStack() as stack:
        folder = stack.enter_context(RunFolder.create(out, name=name)) if world.is_main else None
        closing = stack.pop_all()
    path = None if folder is None else folder.path
    try:
        with closing:
            yield path
    except ReIDError:
        if path is not None:
            discard_unused(path)
        raise
