"""How a run begins: processes, device, folder, checkpoint, seeds and logs, in this order."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reid_core.config import RunConfig
from reid_core.engine.checkpoint import Checkpoint, check_resumable, read_checkpoint
from reid_core.engine.device import (
    Precision,
    choose_device,
    choose_precision,
    numeric_settings,
)
from reid_core.engine.distributed import (
    World,
    broadcast_object,
    main_first,
    process_group,
    read_world,
)
from reid_core.engine.folder import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    METRICS_NAME,
    ORIGIN_NAME,
    RunFolder,
)
from reid_core.engine.logging import MetricsWriter
from reid_core.engine.seeding import seed_everything
from reid_core.files import write_json

__all__ = ["Identity", "OpenRun", "open_run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a run computes; stored in its checkpoints and compared when it is resumed.

    Attributes:
        method: Method that trains, e.g. ``aim``.
        version: Version of the method's package.
        config: The whole configuration as plain JSON values.
        origin: How the run was started, e.g. its command line; plain JSON values.
    """

    method: str
    version: str
    config: Mapping[str, Any]
    origin: Mapping[str, Any]


@dataclass(frozen=True)
class OpenRun:
    """The resources of a run.

    Attributes:
        folder: Run folder, locked by process 0.
        world: This process among the processes of the run.
        device: Device of this process.
        precision: Precision, as really used.
        checkpoint: State to go on from; None for a new run.
        metrics: Writer of the records; on process 0 only.
        origin: How the run was first started.
        closing: Gives everything back, in reverse order.
    """

    folder: Path
    world: World
    device: torch.device
    precision: Precision
    checkpoint: Checkpoint | None
    metrics: MetricsWriter | None
    origin: Mapping[str, Any]
    closing: ExitStack


def open_run(
    settings: RunConfig,
    identity: Identity,
    *,
    resume: bool,
    name: str,
    may_change: Collection[str],
) -> OpenRun:
    """Open a run; see ``Run.start``."""
    with ExitStack() as stack:
        world = read_world()
        device = choose_device(
            settings.device, local_rank=world.local_rank, world_size=world.world_size
        )
        precision = choose_precision(settings.precision, device)
        stack.enter_context(
            numeric_settings(deterministic=settings.deterministic, threads=settings.threads)
        )
        stack.enter_context(process_group(world, device))
        folder = _open_folder(stack, world, settings.out, resume=resume, name=name)
        checkpoint = _read_stopped(folder, identity, world, may_change) if resume else None
        metrics = _open_logs(stack, folder, world, identity, checkpoint)
        origin = _read_origin(folder, identity)
        seed_everything(settings.seed, world.rank)
        closing = stack.pop_all()
    return OpenRun(folder, world, device, precision, checkpoint, metrics, origin, closing)


def _open_folder(
    stack: ExitStack, world: World, path: Path | None, *, resume: bool, name: str
) -> Path:
    """Make or reopen the folder on process 0, and tell the others which it is."""
    with main_first(world):
        if world.is_main:
            opened = RunFolder.reopen(path) if resume else RunFolder.create(path, name=name)
            path = stack.enter_context(opened).path
    path = broadcast_object(path)
    assert path is not None
    return path


def _open_logs(
    stack: ExitStack,
    folder: Path,
    world: World,
    identity: Identity,
    checkpoint: Checkpoint | None,
) -> MetricsWriter | None:
    """Write ``config.json`` and open the metrics on process 0."""
    with main_first(world):
        if not world.is_main:
            return None
        # The settings come last: a folder with them has everything that resuming needs.
        if not (folder / ORIGIN_NAME).exists():
            write_json(folder / ORIGIN_NAME, identity.origin)
        write_json(folder / CONFIG_NAME, identity.config)
        metrics = MetricsWriter(
            folder / METRICS_NAME,
            keep=checkpoint.metrics_bytes if checkpoint else 0,
            num_epochs=checkpoint.epoch if checkpoint else 0,
        )
        stack.callback(metrics.close)
        return metrics


def _read_origin(folder: Path, identity: Identity) -> Mapping[str, Any]:
    """Return how the run was first started; a damaged record is not worth stopping for."""
    try:
        record = json.loads((folder / ORIGIN_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return identity.origin
    return record if isinstance(record, dict) else identity.origin


def _read_stopped(
    folder: Path, identity: Identity, world: World, may_change: Collection[str]
) -> Checkpoint | None:
    """Read and check the checkpoint of a stopped run; None where it was killed before the first."""
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        logger.info("%s has no checkpoint yet; starting the run from its beginning", folder)
        return None
    checkpoint = read_checkpoint(path)
    check_resumable(
        path,
        checkpoint,
        method=identity.method,
        config=identity.config,
        world_size=world.world_size,
        may_change=may_change,
    )
    if checkpoint.version != identity.version and world.is_main:
        logger.warning(
            "%s was written by version %s, this is %s; numbers may differ",
            path,
            checkpoint.version,
            identity.version,
        )
    return checkpoint
