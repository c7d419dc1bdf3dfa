"""Means of an epoch's loss terms, and the guard against values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_core.errors import NonFiniteLossError
from reid_core.files import write_json

__all__ = ["EpochMeter", "PendingTerms", "check_finite"]


@dataclass
class EpochMeter:
    """Running means over one epoch, weighted by images; part of the checkpoint.

    Attributes:
        sums: Term to the sum of value times images, in float64.
        weights: Term to its number of images.
        num_images: Images seen by this process.
        seconds: Time spent on batches, in seconds.
        waited: Part of ``seconds`` spent waiting for data.
    """

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    num_images: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, values: Mapping[str, float], num_images: int) -> None:
        """Count the terms of one batch."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * num_images
            self.weights[name] = self.weights.get(name, 0) + num_images

    def means(self) -> dict[str, float]:
        """Return term to mean, in the order the terms first came."""
        return {name: total / self.weights[name] for name, total in self.sums.items()}

    def timing(self) -> dict[str, float]:
        """Return the seconds, images per second and the share of time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        return {
            "seconds": self.seconds,
            "images_per_second": self.num_images / seconds,
            "data_wait": self.waited / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "sums": dict(self.sums), "weights": dict(self.weights)}

    @classmethod
    def merged(cls, states: Sequence[Mapping[str, Any]]) -> EpochMeter:
        """Add up the meters of all processes, in order of rank.

        The processes work at the same time, so seconds are the longest of them and the waiting is
        the longest wait.
        """
        total = cls(
            num_images=sum(state["num_images"] for state in states),
            seconds=max(state["seconds"] for state in states),
            waited=max(state["waited"] for state in states),
        )
        for state in states:
            for name, value in state["sums"].items():
                total.sums[name] = total.sums.get(name, 0.0) + value
                total.weights[name] = total.weights.get(name, 0) + state["weights"][name]
        return total


class PendingTerms:
    """The terms of one batch on their way from the device to the CPU.

    On CUDA the copy runs behind the kernels of its batch; ``values`` waits for that batch only, so
    that asking one batch later costs nothing. Elsewhere the values are there at once.

    Args:
        terms: Term to a scalar tensor or number.
        paths: Image files of the batch.
        epoch: Epoch of the batch, from 0.
        step: Batch within the epoch, from 0.
    """

    def __init__(
        self,
        terms: Mapping[str, Tensor | float],
        paths: Sequence[Path],
        *,
        epoch: int,
        step: int,
    ) -> None:
        self.paths = paths
        self.epoch = epoch
        self.step = step
        self._names = tuple(terms)
        tensors = [value for value in terms.values() if isinstance(value, Tensor)]
        self._event: torch.cuda.Event | None = None
        if tensors and all(tensor.is_cuda for tensor in tensors):
            stacked = torch.stack([tensor.detach().float() for tensor in tensors])
            self._on_cpu = stacked.to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._on_cpu = torch.tensor(
                [float(tensor.detach()) for tensor in tensors], dtype=torch.float64
            )
        self._numbers = {
            name: float(value) for name, value in terms.items() if not isinstance(value, Tensor)
        }

    @property
    def is_late(self) -> bool:
        """Whether asking for the values at once would wait for the device."""
        return self._event is not None

    def values(self) -> dict[str, float]:
        """Return term to value, waiting for the copy if need be."""
        if self._event is not None:
            self._event.synchronize()
        copied = iter(self._on_cpu.tolist())
        return {
            name: self._numbers[name] if name in self._numbers else next(copied)
            for name in self._names
        }


def check_finite(terms: PendingTerms, values: Mapping[str, float], folder: Path, rank: int) -> None:
    """Stop the run when a term is NaN or infinite.

    Args:
        terms: Where the values come from.
        values: Term to value.
        folder: Run folder; gets ``nonfinite.json`` with all values and files.
        rank: Number of this process.

    Raises:
        NonFiniteLossError: With the terms, the place and the files.
    """
    bad = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
    if not bad:
        return
    files = [path.as_posix() for path in terms.paths]
    report = folder / ("nonfinite.json" if rank == 0 else f"nonfinite-process{rank}.json")
    record = {
        "epoch": terms.epoch,
        "step": terms.step,
        "process": rank,
        "terms": {name: bad.get(name, value) for name, value in values.items()},
        "files": files,
    }
    write_json(report, record)
    named = ", ".join(f"{name} is {value}" for name, value in bad.items())
    raise NonFiniteLossError(
        f"{named} in epoch {terms.epoch}, batch {terms.step} (both from 0). The batch's "
        f"{len(files)} images begin with {', '.join(files[:3])}; all are listed in {report}. Look "
        "at these images, lower the learning rate, or use precision fp32. The last checkpoint is "
        "from before"
    )
