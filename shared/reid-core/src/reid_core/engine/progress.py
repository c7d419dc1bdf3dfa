"""What a user sees while an epoch runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

import rich

# Not inside functions: rich draws from Python's generator when it is imported, and a draw between
# two batches would make a resumed run differ.
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from reid_core.engine.meter import EpochMeter

__all__ = ["ProgressDisplay"]

LINE_SECONDS = 10.0
"""Least time between two plain lines."""

_NUM_TERMS = 3
"""Terms shown while an epoch runs; all of them are shown at its end."""


class ProgressDisplay:
    """Shows the batches of one epoch: means, images per second, waiting, time left.

    Use as a context manager around the epoch's batches.

    Args:
        epoch: Epoch, from 0.
        num_epochs: Epochs of the run; for the time left.
        num_steps: Batches of this epoch.
        first_step: Batch to start at; above 0 when an epoch is resumed inside.
        enabled: False on all processes but the first.
    """

    def __init__(
        self, *, epoch: int, num_epochs: int, num_steps: int, first_step: int, enabled: bool
    ) -> None:
        self._console = rich.get_console()
        self._label = f"epoch {epoch + 1}/{num_epochs}"
        self._later_steps = (num_epochs - epoch - 1) * num_steps
        self._num_steps = num_steps
        self._first_step = first_step
        self._enabled = enabled
        self._start = self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressDisplay:
        if self._enabled and (self._console.is_terminal or self._console.is_jupyter):
            self._bar = self._new_bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, step: int, meter: EpochMeter) -> None:
        """Show the state after batch ``step`` (from 0)."""
        if not self._enabled:
            return
        if self._bar is not None:
            parts = _describe(meter.means(), _NUM_TERMS) + _describe_timing(meter)
            self._bar.update(
                self._bar.task_ids[0],
                completed=step + 1,
                text="  ".join(parts),
                left=self._left(step),
            )
            return
        now = time.monotonic()
        if now - self._last_line < LINE_SECONDS:
            return
        self._last_line = now
        parts = [f"{self._label}  batch {step + 1}/{self._num_steps}"]
        parts += _describe(meter.means(), _NUM_TERMS) + _describe_timing(meter)
        self._print([*parts, f"{self._left(step)} left"])

    def finish(self, meter: EpochMeter, rates: Mapping[str, float]) -> None:
        """Leave one line with all means of the epoch.

        Args:
            meter: Means over all processes.
            rates: Name to learning rate.
        """
        if not self._enabled:
            return
        means = meter.means()
        accuracies = {name: value for name, value in means.items() if name.startswith("acc_")}
        others = {name: value for name, value in means.items() if name not in accuracies}
        timing = [f"{meter.seconds:.1f} s", *_describe_timing(meter)]
        groups = [
            [self._label, *_describe({key.removeprefix("loss_"): others[key] for key in others})],
            ["acc", *_describe({key.removeprefix("acc_"): accuracies[key] for key in accuracies})],
            ["lr", *dict.fromkeys(f"{rate:.3g}" for rate in rates.values())],
            timing,
        ]
        self._print([" | ".join("  ".join(group) for group in groups if len(group) > 1)])

    def _print(self, parts: list[str]) -> None:
        self._console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)

    def _left(self, step: int) -> str:
        """Return the time left until the last epoch's end, at this epoch's pace."""
        done = max(step + 1 - self._first_step, 1)
        pace = (time.monotonic() - self._start) / done
        seconds = round(pace * (self._num_steps - step - 1 + self._later_steps))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def _new_bar(self) -> Progress:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TextColumn("{task.fields[left]} left", markup=False),
            console=self._console,
            transient=True,
        )
        bar.add_task(
            self._label, total=self._num_steps, completed=self._first_step, text="", left="?"
        )
        return bar


def _describe(means: Mapping[str, float], limit: int | None = None) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in list(means.items())[:limit]]


def _describe_timing(meter: EpochMeter) -> list[str]:
    timing = meter.timing()
    return [
        f"{timing['images_per_second']:.0f} images/s",
        f"waiting for data {timing['data_wait']:.0%}",
    ]
