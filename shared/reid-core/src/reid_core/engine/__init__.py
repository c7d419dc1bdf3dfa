"""Training runs: devices, seeds, several processes, logs, checkpoints and weights files."""

from __future__ import annotations

from reid_core.engine.checkpoint import (
    MAY_CHANGE,
    Checkpoint,
    Stateful,
    read_checkpoint,
    save_checkpoint,
)
from reid_core.engine.device import Precision, autocast, choose_device, choose_precision
from reid_core.engine.distributed import (
    PeerError,
    World,
    average_gradients,
    barrier,
    broadcast_buffers,
    broadcast_module,
    broadcast_object,
    gather_objects,
    main_first,
    process_group,
    read_world,
)
from reid_core.engine.logging import MetricsWriter, configure_logging
from reid_core.engine.optimizers import ParameterGroup, build_optimizer
from reid_core.engine.run import BatchLoader, Position, Run
from reid_core.engine.schedules import (
    build_schedule,
    cosine_factor,
    follow_schedule,
    lr_factor,
    warmup_cosine_factor,
)
from reid_core.engine.seeding import capture_rng, restore_rng, seed_everything
from reid_core.engine.weights import Weights, read_torch_file, read_weights, save_weights

__all__ = [
    "MAY_CHANGE",
    "BatchLoader",
    "Checkpoint",
    "MetricsWriter",
    "ParameterGroup",
    "PeerError",
    "Position",
    "Precision",
    "Run",
    "Stateful",
    "Weights",
    "World",
    "autocast",
    "average_gradients",
    "barrier",
    "broadcast_buffers",
    "broadcast_module",
    "broadcast_object",
    "build_optimizer",
    "build_schedule",
    "capture_rng",
    "choose_device",
    "choose_precision",
    "configure_logging",
    "cosine_factor",
    "follow_schedule",
    "gather_objects",
    "lr_factor",
    "main_first",
    "process_group",
    "read_checkpoint",
    "read_torch_file",
    "read_weights",
    "read_world",
    "restore_rng",
    "save_checkpoint",
    "save_weights",
    "seed_everything",
    "warmup_cosine_factor",
]
