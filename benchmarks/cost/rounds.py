"""Interleaved rounds: every contestant once in turn, each time in a fresh process."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cost.fresh_process import ContestantError, Spec, in_fresh_process

__all__ = ["Row", "Task", "machine", "merge", "read_rows", "run_rounds", "say", "write_rows"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Result of one contestant in one case; times are medians over the rounds.

    Attributes:
        case: Data set, match rule and where the features lie.
        contestant: Name.
        does: What the contestant is.
        threads: Of products and of everything else.
        device: Where the products were computed.
        precision: Of the contestant's products, where it has the choice.
        num_queries: Queries that the contestant was given.
        of_queries: Queries of the case; a contestant that would not fit gets fewer of them.
        num_gallery: Gallery images.
        dim: Dimensions of a feature.
        product: How the product alone was computed, the fastest way for this case.
        seconds: Of the contestant.
        product_seconds: Of the product alone, for the same queries.
        ratios: Time in products, round by round.
        ratio: Their median; None where the contestant failed.
        memory: Bytes beyond the features, largest of the rounds; None where it is not known.
        anonymous: The same without pages of files.
        resident: Bytes of the largest resident set, features included.
        mean_ap: mAP that the contestant found.
        rank1: Rank-1 that it found.
        agrees: Whether it is that of ``reid_core`` on the same queries to 1e-6; None where the
            contestant's definition is another or nothing was compared.
        error: Why the contestant failed; empty where it did not.
        rounds: How many there were.
        machine: Processor and versions.
        sweep: Whether it is a point of the plot rather than a line of the table.
    """

    case: str
    contestant: str
    does: str
    threads: int
    device: str
    precision: str
    num_queries: int
    of_queries: int
    num_gallery: int
    dim: int
    product: str
    rounds: int
    machine: str
    sweep: bool = False
    seconds: float | None = None
    product_seconds: float | None = None
    ratios: tuple[float, ...] = ()
    ratio: float | None = None
    memory: int | None = None
    anonymous: int | None = None
    resident: int | None = None
    mean_ap: float | None = None
    rank1: float | None = None
    agrees: bool | None = None
    error: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What a new measurement replaces."""
        return self.case, self.contestant, self.threads, self.device, self.precision


@dataclass(frozen=True, eq=False)
class Task:
    """Something to measure: the row to fill, and what the process is told."""

    row: Row
    spec: Spec


def run_rounds(tasks: Sequence[Task], rounds: int) -> list[tuple[Task, tuple[Row, list[float]]]]:
    """Measure all tasks in turn, ``rounds`` times.

    Args:
        tasks: What to measure. One that fails is not tried again.
        rounds: How often.

    Returns:
        For each task its row, filled, and the mAP of every round, if it has any.
    """
    answers: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(tasks))}
    errors: dict[int, str] = {}
    for turn in range(rounds):
        for index, task in enumerate(tasks):
            if index in errors:
                continue
            where = f"{task.row.case}, threads: {task.row.threads}, round {turn + 1}"
            try:
                answer = in_fresh_process(task.spec)
            except ContestantError as error:
                errors[index] = str(error)
                answers[index].clear()
                say(f"{where}: {task.row.contestant} failed: {error}")
                continue
            answers[index].append(answer)
            say(f"{where}: {task.row.contestant} {answer['ratio']:.3f} x product")
    results = []
    for index, task in enumerate(tasks):
        row = _filled(task.row, answers[index], errors.get(index, ""))
        found = [one["mean_ap"] for one in answers[index] if one["mean_ap"] is not None]
        results.append((task, (row, found)))
    return results


def merge(found: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Put new rows in the place of those they repeat, and the others at the end."""
    rows = {row.key: row for row in found}
    rows.update({row.key: row for row in new})
    return list(rows.values())


def read_rows(path: Path) -> list[Row]:
    """Read what ``write_rows`` wrote; nothing where there is no such file."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "ratios": tuple(row["ratios"])}) for row in rows]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def machine(device: str) -> str:
    """Describe what is measured on."""
    processor = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    parts = [f"{os.cpu_count()} cores {processor}"]
    if device == "cuda":
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}", f"NumPy {np.__version__}"])


def say(text: str) -> None:
    """Report progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def _filled(row: Row, answers: Sequence[Mapping[str, Any]], error: str) -> Row:
    if not answers:
        return Row(**{**asdict(row), "error": error or "not measured"})
    ratios = tuple(answer["ratio"] for answer in answers)
    figures = {
        "seconds": statistics.median(answer["seconds"] for answer in answers),
        "product_seconds": statistics.median(answer["product_seconds"] for answer in answers),
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "memory": _largest(answer["memory"] for answer in answers),
        "anonymous": _largest(answer["anonymous"] for answer in answers),
        "resident": _largest(answer["resident"] for answer in answers),
        "mean_ap": answers[0]["mean_ap"],
        "rank1": answers[0]["rank1"],
    }
    return Row(**{**asdict(row), **figures})


def _largest(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
