"""What a run leaves to read: ``metrics.jsonl``, TensorBoard events, messages on the console."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.files import output_error

__all__ = ["MetricsWriter", "configure_logging"]

logger = logging.getLogger(__name__)


def configure_logging(*names: str, level: int = logging.INFO) -> None:
    """Show the messages of our packages on the console; for commands, never called by the library.

    On a terminal messages are drawn by rich, above a running progress bar; elsewhere they are plain
    lines on standard error. In a distributed run only process 0 shows what is below an error.

    Args:
        names: Loggers beside ``reid_core``, e.g. ``reid_aim``.
        level: Lowest level shown.
    """
    import rich
    from rich.logging import RichHandler

    console = rich.get_console()
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    if os.environ.get("RANK", "0") != "0":
        level = max(level, logging.ERROR)
    for name in ("reid_core", *names):
        target = logging.getLogger(name)
        target.handlers = [handler]
        target.setLevel(level)
        target.propagate = False


class MetricsWriter:
    """Writes records to ``metrics.jsonl`` and their numbers to TensorBoard.

    A record is one line, one JSON object, with a ``kind`` and an ``epoch``. Epochs count from 0;
    -1 is the state before the first. In TensorBoard the horizontal axis is the number of finished
    epochs, ``epoch + 1``.

    Args:
        path: The ``metrics.jsonl`` file; events go to its folder.
        keep: Bytes of an existing file to keep. What a stopped run logged after its checkpoint is
            cut off, because the resumed run logs it again.
        num_epochs: Finished epochs; later TensorBoard events of a stopped run are hidden.
    """

    def __init__(self, path: Path, *, keep: int = 0, num_epochs: int = 0) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._path = path
        existed = path.exists()
        size = path.stat().st_size if existed else 0
        if size < keep:
            logger.warning("%s was shortened since its checkpoint; some records are lost", path)
            keep = size
        try:
            self._file = path.open("r+b" if existed else "xb", buffering=0)
            self._file.truncate(keep)
            self._file.seek(keep)
            # Events of epochs that are logged again would be shown twice.
            purge_step = (num_epochs + 1 if keep else 0) if existed else None
            self._events = SummaryWriter(str(path.parent), purge_step=purge_step)
            if purge_step:
                self._show_again(path.read_bytes(), num_epochs)
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; NaN and infinities are stored as null.

        Args:
            record: ``kind``, ``epoch`` and plain values; mappings may be nested.

        Raises:
            OutputError: When it cannot be written; the file then ends before the record.
        """
        plain = _plain(record)
        line = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        end = self._file.tell()
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            self._show(plain)
            self._events.flush()
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
                self._file.seek(end)
            raise output_error(self._path, error) from error

    def _show(self, plain: Mapping[str, Any]) -> None:
        for name, value in _numbers(plain):
            self._events.add_scalar(name, value, plain["epoch"] + 1)

    def _show_again(self, lines: bytes, num_epochs: int) -> None:
        """Add events of an epoch that the checkpoint lies in: they were hidden with those after."""
        for line in lines.splitlines():
            with suppress(ValueError):  # a file that was shortened ends anywhere
                record = json.loads(line)
                if record["epoch"] >= num_epochs:
                    self._show(record)

    def sync(self) -> int:
        """Force the records to the disk and return the size of ``metrics.jsonl`` in bytes."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(self._path, error) from error
        return self._file.tell()

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        # The events only repeat the records; a full disk was reported for those.
        with suppress(OSError):
            self._events.close()


def _plain(value: Any) -> Any:
    """Return JSON values: NumPy numbers unpacked, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record as TensorBoard tags: ``train/loss_id``."""
    prefix = prefix or f"{record['kind']}/"
    for name, value in record.items():
        if isinstance(value, Mapping):
            group = "" if name == "results" else f"{name}/"
            yield from _numbers(value, f"{prefix}{group}")
        elif isinstance(value, int | float) and name != "epoch":
            yield f"{prefix}{name}", float(value)
