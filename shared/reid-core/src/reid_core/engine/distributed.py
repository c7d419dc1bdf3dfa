"""Several processes as one run: torch.distributed behind functions that do nothing alone.

Every function here is a no-op (or the identity) while there is no process group, so that a recipe
reads the same for one process and for many. Processes are started by ``torchrun``.

DistributedDataParallel wraps one forward and one backward pass. A method that steps several
optimisers from one shared forward pass synchronises by hand instead, with the same arithmetic:
parameters start equal (``broadcast_module``), and before each optimiser's step the gradients of its
parameters are replaced by their mean over the processes (``average_gradients``)::

    loss.backward()
    average_gradients(optimizer_parameters)
    optimizer.step()

Running statistics of batch normalisation are those of process 0, as under
DistributedDataParallel (``broadcast_buffers``); nothing else is shared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid_core.errors import ConfigError, ReIDError

__all__ = [
    "PeerError",
    "World",
    "average_gradients",
    "barrier",
    "broadcast_buffers",
    "broadcast_module",
    "broadcast_object",
    "broadcast_rows",
    "gather_objects",
    "is_active",
    "main_first",
    "own_rank",
    "process_group",
    "read_world",
    "reduce_array",
]

TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others. Decoding a large data set on a slow disk takes long; a
process that died is noticed at once, by its lost connection."""

BUCKET_BYTES = 25 * 2**20
"""Size of the flat buffers that are exchanged; DistributedDataParallel's default."""

T = TypeVar("T")


class PeerError(ReIDError):
    """Another process of the run stopped; its own message says why."""


@dataclass(frozen=True)
class World:
    """This process among the processes of a run.

    Attributes:
        rank: Number of this process, 0..world_size - 1.
        world_size: Number of processes.
        local_rank: Number of this process on its machine.
        local_world_size: Number of processes on its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, the one that writes files."""
        return self.rank == 0


def read_world(environment: Mapping[str, str] | None = None) -> World:
    """Read what ``torchrun`` told this process; one process alone where it told nothing.

    Args:
        environment: Environment variables; default: this process's.

    Raises:
        ConfigError: When the variables are incomplete or contradict each other.
    """
    values = os.environ if environment is None else environment
    if "WORLD_SIZE" not in values and "RANK" not in values:
        return World()
    if values.get("WORLD_SIZE") == "1" and "LOCAL_RANK" not in values:
        return World()  # job schedulers describe a job of one process so
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK"]
    if values.get("WORLD_SIZE") != "1":
        names += ["MASTER_ADDR", "MASTER_PORT"]
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise ConfigError(
            f"the environment asks for several processes but lacks {', '.join(missing)}; start "
            "them with: torchrun --no-python --nproc-per-node N COMMAND ..."
        )
    # Job schedulers need not say how many are on this machine; then all of them are taken to be.
    local_world_size = values.get("LOCAL_WORLD_SIZE") or values["WORLD_SIZE"]
    numbers = [*(values[name] for name in names[:3]), local_world_size]
    if not all(number.isdecimal() for number in numbers) or int(numbers[0]) >= int(numbers[1]):
        raise ConfigError(
            f"RANK={numbers[0]}, WORLD_SIZE={numbers[1]}, LOCAL_RANK={numbers[2]} and "
            f"LOCAL_WORLD_SIZE={numbers[3]} must be numbers from 0 with RANK below WORLD_SIZE; let "
            "torchrun set them"
        )
    return World(*map(int, numbers))


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Join the process group of the run, and leave it at the end; nothing for one process.

    A run inside another one (a teacher that is trained first) goes on in the group that there is.
    gloo carries what lies on the CPU, NCCL what lies on a GPU. When the body fails, the group is
    torn down at once, so that the other processes stop with ``PeerError`` instead of waiting.

    Raises:
        PeerError: When the processes do not find each other.
    """
    if world.world_size == 1 or is_active():
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if dist.is_nccl_available():
            backend = "cpu:gloo,cuda:nccl"
    with _peer_errors("joining the process group"):
        dist.init_process_group(
            backend, rank=world.rank, world_size=world.world_size, timeout=TIMEOUT
        )
    try:
        yield
    except BaseException:
        # NCCL would wait for kernels that the others never join; torchrun ends them when this
        # process exits. gloo closes its connections, which the others notice at once.
        if device.type != "cuda":
            with suppress(RuntimeError):
                dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def is_active() -> bool:
    """Tell whether this process is one of several that are connected."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def own_rank() -> int:
    """Return the number of this process among those that are connected; 0 alone."""
    return dist.get_rank() if is_active() else 0


def barrier() -> None:
    """Wait until all processes are here."""
    gather_objects(None)


def broadcast_object(value: T) -> T:
    """Return process 0's ``value`` on every process. Picklable, small."""
    if not is_active():
        return value
    box = [value]
    with _peer_errors("a broadcast"):
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes, in order of rank, on every process. Picklable, small."""
    if not is_active():
        return [value]
    values: list[T] = [value] * dist.get_world_size()
    with _peer_errors("an exchange"):
        dist.all_gather_object(values, value)
    return values


def reduce_array(values: npt.NDArray[Any], how: Literal["sum", "max"]) -> npt.NDArray[Any]:
    """Return the sum or the maximum over all processes, entry by entry, on every process.

    Args:
        values: An array on the CPU, of the same shape and type in all processes.
        how: What becomes of the entries.

    Raises:
        PeerError: Another process has stopped.
    """
    if not is_active():
        return values
    reduced = torch.from_numpy(values.copy())
    operation = dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX
    with _peer_errors("an exchange"):
        dist.all_reduce(reduced, operation)
    return reduced.numpy()


def broadcast_rows(values: Tensor | None, source: int) -> Tensor:
    """Return a matrix of one process on every process.

    Args:
        values: (N, D) float32 on the CPU in process ``source``; None in the others.
        source: Rank of the process that has it.

    Raises:
        PeerError: Another process has stopped.
    """
    if not is_active():
        assert values is not None
        return values
    shapes = gather_objects(() if values is None else tuple(values.shape))
    # A script may have set another type or device as PyTorch's default.
    empty = torch.empty(shapes[source], dtype=torch.float32, device="cpu")
    rows = empty if values is None else values.contiguous()
    with _peer_errors("an exchange of features"):
        dist.broadcast(rows, src=source)
    return rows


@contextmanager
def main_first(world: World) -> Iterator[None]:
    """Let process 0 through the body before the others.

    For work that leaves a file which the others then find, such as an image cache.

    Raises:
        PeerError: On the others, when process 0 fails.
    """
    if world.world_size == 1:
        yield
        return
    if not world.is_main:
        problem = broadcast_object("")
        if problem:
            raise PeerError(f"process 0 stopped: {problem}")
        yield
        return
    try:
        yield
    except BaseException as error:
        with suppress(PeerError):  # they may be gone already
            broadcast_object(f"{type(error).__name__}: {error}")
        raise
    broadcast_object("")


def broadcast_module(module: nn.Module) -> None:
    """Give every process the parameters and buffers that process 0 has."""
    if is_active():
        _broadcast([*module.parameters(), *module.buffers()])


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the buffers (running statistics) that process 0 has."""
    if is_active():
        _broadcast(list(module.buffers()))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in place.

    Call it between ``backward()`` and ``step()``, on every process, with the same parameters in the
    same order. Parameters without a gradient are left alone; they must be the same on every
    process, so a step may branch on the epoch but not on its data. The result is bitwise equal on
    all processes, so parameters that started equal stay equal.

    Args:
        parameters: The optimiser's parameters; their gradients are dense.

    Raises:
        PeerError: When another process has stopped.
    """
    if not is_active():
        return
    gradients = [item.grad for item in parameters if item.grad is not None]
    world_size = dist.get_world_size()

    def sum_up(flat: Tensor) -> dist.Work | None:
        return dist.all_reduce(flat, async_op=True)

    _exchange(gradients, "averaging gradients", sum_up, lambda flat: flat.div_(world_size))


def _broadcast(tensors: list[Tensor]) -> None:
    def send(flat: Tensor) -> dist.Work | None:
        return dist.broadcast(flat, src=0, async_op=True)

    _exchange(tensors, "a broadcast of weights", send, lambda flat: flat)


@torch.no_grad()
def _exchange(
    tensors: list[Tensor],
    action: str,
    start: Callable[[Tensor], dist.Work | None],
    finish: Callable[[Tensor], Tensor],
) -> None:
    """Run a collective over flat copies of ``tensors`` and write the results back.

    All exchanges are started before the first is awaited, so that they overlap.
    """
    pending = []
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        with _peer_errors(action):
            pending.append((bucket, flat, start(flat)))
    for bucket, flat, work in pending:
        if work is not None:
            with _peer_errors(action):
                work.wait()
        parts = torch.split(finish(flat), [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors of one dtype and device, in order, up to ``BUCKET_BYTES`` each."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in groups.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in group:
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
            if size >= BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket


@contextmanager
def _peer_errors(action: str) -> Iterator[None]:
    """Turn the transport's errors into a ``PeerError``."""
    try:
        yield
    except RuntimeError as error:  # dist.DistError and its kin, and gloo's plain RuntimeError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = re.sub(r"^\[[^]]*\] ", "", reason)[:160]  # less the transport's source line
        raise PeerError(
            f"another process of this run stopped or cannot be reached (during {action}): its own "
            f"message, above or in its log, says why. Transport: {reason}"
        ) from error
