"""Which device a run computes on, in which precision, and how repeatably."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.utils.deterministic

from reid_core.errors import ConfigError

__all__ = ["Precision", "autocast", "choose_device", "choose_precision", "numeric_settings"]

Precision = Literal["fp32", "bf16"]

logger = logging.getLogger(__name__)


def choose_device(name: str, *, local_rank: int = 0, world_size: int = 1) -> torch.device:
    """Turn the ``--device`` setting into a device that is there.

    Args:
        name: ``auto`` (CUDA where there is one, else CPU; MPS only on request, because it lacks
            float64 and some kernels), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        local_rank: Number of this process on its machine; it gets the CUDA device of that number.
        world_size: Number of processes of the run.

    Raises:
        ConfigError: When the name is unknown, the device is absent, or processes would share it.
    """
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and kind != "cuda"):
        raise ConfigError(f"run.device={name!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    if number and not number.isdecimal():
        raise ConfigError(f"run.device={name!r} needs a device number, e.g. cuda:0")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("run.device=mps: this machine or this PyTorch has no MPS; use cpu")
    if kind == "mps" and world_size > 1:
        raise ConfigError(f"run.device=mps serves one process, not {world_size}; use cpu")
    if kind != "cuda":
        return torch.device(kind)
    return _choose_cuda(name, number, local_rank, world_size)


def _choose_cuda(name: str, number: str, local_rank: int, world_size: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        built = torch.version.cuda
        reason = "no CUDA device is visible" if built else "this PyTorch was built without CUDA"
        raise ConfigError(f"run.device={name}: {reason}; use --device cpu (or auto)")
    if number and world_size > 1:
        raise ConfigError(
            f"run.device={name} would put {world_size} processes on one GPU; use --device cuda, "
            "then each process takes the GPU of its local rank"
        )
    index = int(number) if number else local_rank
    if index >= count:
        wanted = f"run.device={name}" if number else f"process {local_rank} of this machine"
        raise ConfigError(
            f"{wanted} needs GPU {index}, but only {count} GPU(s) are visible (0..{count - 1}); "
            "choose one of these, or start fewer processes"
        )
    return torch.device("cuda", index)


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision that a run really uses.

    bf16 is for CUDA; elsewhere the run stays in fp32 and says so once. fp16 is refused: a signed
    square root and softmaxes of scaled cosines underflow in it, and the gradients become NaN.

    Raises:
        ConfigError: When the precision is unknown or the GPU lacks bf16.
    """
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"run.precision={precision!r} is not supported; use fp32 or bf16")
    if precision == "fp32":
        return "fp32"
    if device.type != "cuda":
        logger.warning("run.precision=bf16 has no effect on %s; computing in fp32", device.type)
        return "fp32"
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"run.precision=bf16: {name} has no bf16 arithmetic; use fp32")
    return "bf16"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context of a forward pass: bf16 autocast, or nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def numeric_settings(*, deterministic: bool, threads: int = 0) -> Iterator[None]:
    """Apply the process-wide numeric switches of a run, and take them back afterwards.

    TF32 is off, for matrix products and convolutions: fp32 means fp32 on every device.

    Args:
        deterministic: Same kernels, same bits on the same machine. Operations that have no
            deterministic kernel run anyway, with PyTorch's warning. False lets cuDNN try out
            kernels and take the fastest.
        threads: CPU threads; 0 leaves the choice to PyTorch.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    num_threads = torch.get_num_threads()
    if deterministic:
        # cuBLAS reads this once, when CUDA starts; without it its results may vary.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Writing to every fresh tensor costs time and only helps to find reads of garbage.
        memory.fill_uninitialized_memory = False
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
        torch.set_num_threads(num_threads)
