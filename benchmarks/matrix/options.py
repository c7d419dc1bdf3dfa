"""The command line of the benchmark, and what it asks for."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.schema import Matrix

__all__ = ["ALL", "Options", "parse_options", "session_name"]

ALL = "all"
"""In place of a data set: all of them."""

_DEVICE = re.compile(r"cpu|[0-9]+")

# What the benchmark itself sets in the commands that it starts.
_RESERVED = {
    "--config": "cells start from presets",
    "--data": "give it before other options",
    "--data.root": "use --data",
    "--data.trial": "use --trials",
    "--dataset": "it is the first argument",
    "--out": "give it before other options",
    "--resume": "stopped cells are continued anyway",
    "--run.out": "use --out",
    "--run.seed": "use --seeds",
    "--seed": "use --seeds",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the benchmark was asked for.

    Attributes:
        dataset: A data set of the matrix, or ``ALL``.
        data: Where the images are: a folder, ``synthetic`` or ``synthetic:NAME``; None if unsaid.
        methods: Methods or names of rows; empty for all.
        seeds: Runs per row, with seeds from 1.
        trials: Divisions of a data set that has several; None for the default.
        preset: Preset of all rows; None for the row's own (``demo`` for synthetic data).
        devices: ``cpu`` or the number of a GPU, for every cell that runs at one time; empty for
            one cell on the device that its command chooses.
        out: Folder of the run folders.
        results: Folder of the ledger and the tables.
        environments: Folder with an environment for each method; None for the commands at hand.
        overrides: Options that are passed on to every training.
        report_only: Make the tables anew from the ledger, and run nothing.
        list_methods: Only print the methods that would run, one per line.
        parent: Process without which this one stops; None for none.
    """

    dataset: str
    data: str | None
    methods: tuple[str, ...]
    seeds: int
    trials: int | None
    preset: str | None
    devices: tuple[str, ...]
    out: Path
    results: Path
    environments: Path | None
    overrides: tuple[str, ...]
    report_only: bool
    list_methods: bool
    parent: int | None

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated."""
        return (self.data or "").partition(":")[0] == "synthetic"


def session_name(dataset: str) -> str:
    """Return the nox session that runs a data set's rows."""
    return "benchmark" if dataset == ALL else f"benchmark-{dataset.replace('_', '-')}"


def parse_options(argv: Sequence[str], matrix: Matrix, results: Path) -> Options:
    """Parse the arguments; leaves the process with status 2 where they are wrong.

    Args:
        argv: Arguments without the program's name.
        matrix: The matrix.
        results: Folder of the results unless another is asked for.
    """
    parser = _build_parser(matrix, results)
    found, overrides = parser.parse_known_args(argv)
    _check_overrides(parser, overrides)
    methods = _split(found.methods)
    rows = matrix.rows if found.dataset == ALL else matrix.rows_of(found.dataset)
    known = dict.fromkeys(name for row in rows for name in (row.method, row.name))
    unknown = [name for name in methods if name not in known]
    if unknown:
        place = "any data set" if found.dataset == ALL else found.dataset
        parser.error(f"no row for {', '.join(unknown)} on {place}; choose from {', '.join(known)}")
    if found.seeds < 1:
        parser.error(f"--seeds {found.seeds} must be at least 1")
    if found.trials is not None:
        _check_trials(parser, matrix, found.dataset, found.trials)
    devices = _split(found.devices)
    for device in devices:
        if not _DEVICE.fullmatch(device):
            parser.error(f"--devices: {device!r} is none; use cpu, or numbers of GPUs: 0,1")
        if device != "cpu" and devices.count(device) > 1:
            parser.error(f"--devices: GPU {device} is named twice; it runs one cell at a time")
    if devices and any(arg.partition("=")[0] in ("--device", "--run.device") for arg in overrides):
        parser.error("--devices and --device exclude each other; leave --device out")
    layout = (found.data or "").partition(":")
    if layout[0] == "synthetic" and layout[2] not in ("", found.dataset):
        parser.error(f"--data {found.data}: this is the benchmark of {found.dataset}; leave out :")
    return Options(
        dataset=found.dataset,
        data=found.data,
        methods=methods,
        seeds=found.seeds,
        trials=found.trials,
        preset=found.preset,
        devices=devices,
        out=found.out,
        results=found.results,
        environments=found.environments,
        overrides=tuple(overrides),
        report_only=found.report,
        list_methods=found.list_methods,
        parent=found.parent,
    )


def _build_parser(matrix: Matrix, results: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description="Run every method that has a row for a data set, and compare the results with "
        "the published ones. Options that are not listed go to every training.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", choices=[*matrix.datasets, ALL], metavar="DATASET")
    add("--data", metavar="ROOT", help="the data set's folder or its parent, or `synthetic`")
    add("--methods", metavar="NAMES", help="e.g. aim,cssc; default: all with a row")
    add("--seeds", type=int, default=1, metavar="N", help="runs per row (default: 1)")
    add(
        "--trials",
        type=int,
        metavar="N",
        help="divisions of a data set that has several (default: all; 1 if synthetic)",
    )
    add("--preset", help="paper or demo; default: paper (demo if synthetic)")
    add("--devices", metavar="LIST", help="one cell at a time on each, e.g. 0,1 or cpu,cpu")
    add("--out", type=Path, default=Path("runs/benchmark"), metavar="DIR", help="run folders")
    add("--results", type=Path, default=results, metavar="DIR", help="ledger and tables")
    add("--report", action="store_true", help="only make tables and page from the ledger")
    # Of the nox session: which environments to make, where they are, and what to stop with.
    add("--environments", type=Path, help=argparse.SUPPRESS)
    add("--list-methods", action="store_true", help=argparse.SUPPRESS)
    add("--parent", type=int, help=argparse.SUPPRESS)
    return parser


def _check_overrides(parser: argparse.ArgumentParser, overrides: Sequence[str]) -> None:
    for arg in overrides:
        flag = arg.partition("=")[0]
        if flag in _RESERVED:
            parser.error(f"{flag} cannot be passed on to the trainings: {_RESERVED[flag]}")
        if len(arg) > 1 and arg.startswith("-") and not arg.startswith("--") and arg[1].isalpha():
            parser.error(f"{arg}: give options of the trainings by their long names")


def _check_trials(
    parser: argparse.ArgumentParser, matrix: Matrix, dataset: str, trials: int
) -> None:
    chosen = matrix.datasets.values() if dataset == ALL else [matrix.datasets[dataset]]
    most = max(item.trials or 1 for item in chosen)
    if not 1 <= trials <= most:
        parser.error(f"--trials {trials} must lie in 1..{most} for {dataset}")


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (item.strip() for item in (text or "").split(","))))
