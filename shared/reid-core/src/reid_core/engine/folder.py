"""The folder of a run: chosen, checked, and held by one process at a time."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

from reid_core.errors import CheckpointError, ConfigError
from reid_core.files import is_leftover, output_error, remove_leftovers
from reid_core.folder_lock import LOCK_NAME, FolderLock

__all__ = [
    "CHECKPOINT_NAME",
    "CONFIG_NAME",
    "DATA_NAME",
    "METRICS_NAME",
    "ORIGIN_NAME",
    "RunFolder",
    "discard_unused",
]

CHECKPOINT_NAME = "last.pt"
CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.jsonl"
ORIGIN_NAME = "origin.json"
DATA_NAME = "data.json"


class RunFolder(FolderLock):
    """A run's folder, locked against a second process.

    The lock belongs to the process, so the operating system drops it when the process ends, however
    it ends; a leftover lock file means nothing. Use as a context manager.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "run folder")

    @classmethod
    def create(cls, out: Path | None, *, name: str) -> RunFolder:
        """Make the folder of a new run.

        Args:
            out: The folder, new or empty; default: ``runs/<name>-<n>`` with the first free n.
            name: Start of the default folder's name, e.g. ``aim-ltcc-paper``.

        Raises:
            ConfigError: When the folder holds something, or another process uses it.
            OutputError: When it cannot be made.
        """
        path = _make_numbered(Path("runs"), name) if out is None else out
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ConfigError(f"run.out={path} is a file; name a new or empty folder") from None
        except OSError as error:
            raise output_error(path, error) from error
        found = _contents(path)
        if found:
            listing = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
            advice = "choose another folder with --out"
            if CONFIG_NAME in found or CHECKPOINT_NAME in found:
                advice = f"continue that run with --resume {path}, or {advice}"
            raise ConfigError(f"run folder {path} is not empty ({listing}); {advice}")
        return cls(path)

    @classmethod
    def reopen(cls, path: Path | None) -> RunFolder:
        """Open the folder of a run that was stopped, and clear what a killed process left.

        Raises:
            CheckpointError: When there is no run.
            ConfigError: When another process uses it.
        """
        if path is None or not path.is_dir():
            raise CheckpointError(
                f"there is no run folder {path or '(none given)'}; --resume takes the folder of a "
                "training run"
            )
        found = _contents(path)
        if CONFIG_NAME not in found and CHECKPOINT_NAME not in found:
            raise CheckpointError(
                f"{path} holds no run (neither {CONFIG_NAME} nor {CHECKPOINT_NAME}, but "
                f"{', '.join(found[:4]) or 'nothing'}); --resume takes the folder of a training run"
            )
        folder = cls(path)
        remove_leftovers(path)
        return folder


def discard_unused(folder: Path) -> None:
    """Remove the folder of a run that failed before it computed anything worth keeping.

    Does nothing where there is more than settings and an empty start of the logs.
    """
    opening = {CONFIG_NAME, DATA_NAME, METRICS_NAME, ORIGIN_NAME}
    found = _contents(folder)
    if any(name not in opening and not name.startswith("events.out.") for name in found):
        return
    for name in (*found, LOCK_NAME):
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def _contents(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, without locks and leftovers."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise output_error(folder, error) from error
    return [path.name for path in paths if path.name != LOCK_NAME and not is_leftover(path)]


def _make_numbered(parent: Path, name: str) -> Path:
    """Make ``parent/name-<n>`` with the first free n from 1; safe among racing processes."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file, a link to nowhere: no number would help
        raise output_error(parent, error) from error
    for number in count(1):
        path = parent / f"{name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise output_error(path, error) from error
        return path
    raise AssertionError("count() never ends")
