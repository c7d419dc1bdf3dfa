"""The training state on disk: everything that a stopped run needs to go on as if it had not been.

A checkpoint is one ``torch.save`` file of tensors and plain Python values, so it is read with
``weights_only=True``. It is replaced in one step: a process killed while it writes leaves the
previous one in place.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reid_core.engine.weights import read_torch_file
from reid_core.errors import CheckpointError
from reid_core.files import atomic_file

__all__ = [
    "MAY_CHANGE",
    "Checkpoint",
    "Stateful",
    "check_resumable",
    "read_checkpoint",
    "restore_objects",
    "save_checkpoint",
]

FORMAT = 1
"""Layout of the file; raised when older code could no longer read it."""

MAY_CHANGE = frozenset(
    {
        "data.cache",
        "data.cache_dir",
        "data.root",
        "data.test_batch_size",
        "epochs",
        "protocols",
        "run.checkpoint_steps",
        "run.device",
        "run.eval_every",
        "run.memory_limit",
        "run.out",
        "run.threads",
    }
)
"""Settings that a resumed run may change: where things are, how often it reports, how long it runs.
All others define the result, and a change would make a run that no configuration describes."""

# Settings that older versions did not have, with what they did: their runs can be continued.
_ADDED_LATER: Mapping[str, Any] = MappingProxyType(
    {
        "data.trial": 1,
        "data.prefer_arrays": False,
        "data.interpolation": "bilinear",
        "data.flip": "sum",
        "data.prepared": None,
    }
)

_MAX_LISTED = 6
"""Differences listed in a message; the rest is counted."""

_MISSING = object()

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class Stateful(Protocol):
    """Whatever a checkpoint can hold: modules, optimisers, schedules, and the like."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return tensors and plain Python values, nested in dicts, lists and tuples."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Take over a state returned by ``state_dict``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of ``last.pt``.

    Attributes:
        method: Method that trains, e.g. ``aim``.
        version: Version of the method's package.
        config: The run's configuration as plain values.
        world_size: Number of processes.
        epoch: Epoch to go on with, from 0.
        step: Batches of that epoch that are done.
        metrics_bytes: Size of ``metrics.jsonl`` when this was written.
        objects: Name to state of everything tracked.
        processes: Per process, in order of rank: ``rng`` (state of its generators) and ``meter``
            (its running means), see ``capture_rng`` and ``EpochMeter``.
        format: Layout of the file.
    """

    method: str
    version: str
    config: Mapping[str, Any]
    world_size: int
    epoch: int
    step: int
    metrics_bytes: int
    objects: Mapping[str, Any]
    processes: Sequence[Mapping[str, Any]]
    format: int = FORMAT


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; ``path`` holds the old or the new one, whatever happens meanwhile.

    Raises:
        OutputError: When it cannot be written (with needed and free bytes); the old one stays.
        TypeError: When a tracked object's state holds something other than tensors and plain
            Python values; names the place.
    """
    state = dict(vars(checkpoint))
    needed = _check_plain(state, "checkpoint")
    advice = "Free some space and start again, or choose a folder on another disk with --out."
    if path.exists():
        advice = (
            f"The checkpoint before stays; make room, then continue with --resume {path.parent}."
        )
    with atomic_file(path, needed=needed, advice=advice) as file:
        torch.save(state, file)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, tensors on the CPU; nothing in it is executed.

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or no training state.
    """
    state = read_torch_file(path)
    names = {item.name for item in dataclasses.fields(Checkpoint)}
    if not isinstance(state, dict) or "format" not in state or "objects" not in state:
        found = f"keys {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else ""
        raise CheckpointError(
            f"{path} is no training state of a run ({found or type(state).__name__}); --resume "
            "takes a run's folder, whose last.pt this is"
        )
    if state["format"] != FORMAT or set(state) != names:
        raise CheckpointError(
            f"{path} has layout {state['format']}, this reid-core reads layout {FORMAT}; continue "
            f"with the versions that wrote it ({state.get('method')} {state.get('version')})"
        )
    return Checkpoint(**state)


def check_resumable(
    path: Path,
    checkpoint: Checkpoint,
    *,
    method: str,
    config: Mapping[str, Any],
    world_size: int,
    may_change: Collection[str] = (),
) -> None:
    """Check that a run with these settings would continue the stopped one.

    Args:
        path: The checkpoint's file, for messages.
        checkpoint: What it holds.
        method: Method that is about to train.
        config: Its configuration as plain values.
        world_size: Number of processes now.
        may_change: Dotted settings that may differ, beside ``MAY_CHANGE``.

    Raises:
        CheckpointError: With every difference that matters.
    """
    if checkpoint.method != method:
        raise CheckpointError(
            f"{path} belongs to method {checkpoint.method!r}, not {method!r}; continue it with "
            f"{checkpoint.method}-train"
        )
    allowed = MAY_CHANGE | set(may_change)
    new = _flatten(config)
    added = {name: value for name, value in _ADDED_LATER.items() if name in new}
    old = {**added, **_flatten(checkpoint.config)}
    changes = [
        f"{name} was {old.get(name, 'not set')!r}, is {new.get(name, 'not set')!r}"
        for name in dict.fromkeys([*old, *new])
        if name not in allowed and old.get(name, _MISSING) != new.get(name, _MISSING)
    ]
    if changes:
        raise CheckpointError(
            f"{path} was written with other settings: {_listing(changes)}. Leave them as they were "
            "to continue, or start a new run with another --out"
        )
    if checkpoint.world_size != world_size:
        raise CheckpointError(
            f"{path} was written by {checkpoint.world_size} process(es), now there are "
            f"{world_size}: batches would be made up differently. Continue with torchrun "
            f"--nproc-per-node {checkpoint.world_size}, or start a new run with another --out"
        )


def restore_objects(path: Path, objects: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    """Load the tracked states of a checkpoint into the objects of this run.

    All modules are compared before the first object is changed.

    Raises:
        CheckpointError: When an object is missing, or tensors differ in name or shape.
    """
    if set(objects) != set(states):
        raise CheckpointError(
            f"{path} holds the state of {', '.join(sorted(states))}; this run tracks "
            f"{', '.join(sorted(objects))}. It was written by another version or method"
        )
    problems = [
        f"{name}: {problem}"
        for name, target in objects.items()
        if isinstance(target, nn.Module)
        for problem in _module_differences(target, states[name])
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit this network: {_listing(problems)}. It was written for another "
            "data set (number of identities or outfits) or another network; use the settings in "
            "its config.json, or start a new run with another --out"
        )
    for name, target in objects.items():
        try:
            target.load_state_dict(states[name])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot restore {name}: {error}") from error


def _module_differences(module: nn.Module, state: Mapping[str, Any]) -> list[str]:
    """List names and shapes in which a module and a stored state differ."""
    own = module.state_dict()
    problems = []
    for name in dict.fromkeys([*own, *state]):
        if name not in state:
            problems.append(f"{name} is not in the checkpoint")
        elif name not in own:
            problems.append(f"{name} is not in the network")
        elif _shape(own[name]) != _shape(state[name]):
            stored, here = _shape(state[name]), _shape(own[name])
            problems.append(f"{name} is {stored} in the checkpoint, {here} here")
    return problems


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _check_plain(value: Any, where: str) -> int:
    """Check that only tensors and plain values are stored; return the tensors' bytes."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if type(value) in (dict, OrderedDict, Counter):
        return sum(_check_plain(item, f"{where}.{key}") for key, item in value.items())
    if type(value) in (list, tuple, set):
        return sum(_check_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if type(value) not in _PLAIN:
        raise TypeError(
            f"{where} is a {type(value).__name__}; a tracked state holds tensors and plain Python "
            "values only, because nothing else is loaded safely"
        )
    return 0


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted name to value; lists are values, tuples equal lists."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _listing(items: Sequence[str]) -> str:
    rest = len(items) - _MAX_LISTED
    return "; ".join(items[:_MAX_LISTED]) + (f"; and {rest} more" if rest > 0 else "")
