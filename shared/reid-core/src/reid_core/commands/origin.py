"""Where a run came from: kept in its folder, so that a resumed run tells the same story."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reid_core.engine.folder import ORIGIN_NAME
from reid_core.engine.run import Run
from reid_core.errors import CheckpointError
from reid_core.files import write_json

__all__ = ["Origin", "keep_origin"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a run was started.

    Attributes:
        preset: Preset that its settings started from.
        command: Command line.
        fingerprint: ``reid_core.data.fingerprint`` of the data set it trains on.
    """

    preset: str
    command: str
    fingerprint: str


def keep_origin(run: Run, origin: Origin) -> Origin:
    """Write a new run's origin into its folder, or read the one of a run that is continued.

    Args:
        run: The run; every process calls this.
        origin: What this process was started with.

    Returns:
        The origin of the run as it was first started.

    Raises:
        CheckpointError: When the run was started on other data, or its record is damaged.
    """
    path = run.folder / ORIGIN_NAME
    with run.main_first():
        if run.is_main and not path.exists():
            write_json(path, asdict(origin))
        first = _read(path)
    if first.fingerprint != origin.fingerprint:
        raise CheckpointError(
            f"the run in {run.folder} was started on a data set with fingerprint "
            f"{first.fingerprint}, this one has {origin.fingerprint}: files or labels differ. "
            "Continue with the same images (`reid-data stats` shows the fingerprint), or start a "
            "new run with --out"
        )
    return first


def _read(path: Path) -> Origin:
    try:
        return Origin(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or missing ({error}); start a new run") from error
