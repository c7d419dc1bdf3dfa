"""The cells of the matrix: which trainings there are, in which order, where each leaves its run."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from matrix.options import Options
from matrix.schema import Matrix, MatrixDataset, Row

__all__ = ["Cell", "choose_rows", "is_ready", "plan_cells", "public_argument"]

_LAST_WRITTEN = ("results.json", "report.html")
_RESUMABLE = ("config.json", "last.pt")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a row with a seed and, where the data set has several, a trial.

    Attributes:
        dataset: The data set.
        row: The row.
        seed: Seed, from 1.
        trial: Division into training and test people, from 1; None where there is one.
        preset: Preset it starts from.
        data: As the command takes it: ``synthetic:ltcc``, or a folder.
        synthetic: Whether the images are generated.
        overrides: Options that are passed on.
        folder: Its run folder.
    """

    dataset: MatrixDataset
    row: Row
    seed: int
    trial: int | None
    preset: str
    data: str
    synthetic: bool
    overrides: tuple[str, ...]
    folder: Path

    @property
    def label(self) -> str:
        """What it is called on the console."""
        trial = "" if self.trial is None else f" trial {self.trial}"
        kind = " (synthetic)" if self.synthetic else ""
        return f"{self.row.name} on {self.dataset.name}{kind}, seed {self.seed}{trial}"

    @property
    def log(self) -> Path:
        """File of the command's output, over all attempts."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def journal(self) -> Path:
        """File that remembers the attempts."""
        return self.folder.with_name(f"{self.folder.name}.attempts.jsonl")

    @property
    def is_whole(self) -> bool:
        """Whether the run folder holds everything that a training leaves at its end."""
        return all((self.folder / name).is_file() for name in _LAST_WRITTEN)

    @property
    def is_resumable(self) -> bool:
        """Whether the run folder holds a training that can be continued."""
        return any((self.folder / name).is_file() for name in _RESUMABLE)

    def arguments(self, device: str | None) -> list[str]:
        """Return the arguments of a training from its beginning, less ``--out``.

        Args:
            device: Value of ``--device``; None leaves the choice to the command.
        """
        args = ["--data", self.data, "--dataset", self.dataset.name, "--preset", self.preset]
        args += ["--seed", str(self.seed), *self.row.flags]
        args += [] if self.trial is None else ["--data.trial", str(self.trial)]
        args += [] if device is None else ["--device", device]
        return [*args, *self.overrides]

    def resume_arguments(self, device: str | None) -> list[str]:
        """Return the arguments that continue the training; its folder knows the settings."""
        args = ["--resume", str(self.folder)]
        # The images may have moved meanwhile; the command checks that they are the same ones.
        args += [] if self.synthetic else ["--data", self.data, "--dataset", self.dataset.name]
        return args if device is None else [*args, "--device", device]

    def public_command(self, device: str | None) -> str:
        """Return the command to repeat this training with, without places on this machine."""
        program = f"{self.row.method}-train"
        if self.row.script is not None:
            program = f"python benchmarks/{self.row.script}"
        args = self.arguments(device)
        if not self.synthetic:
            args[args.index("--data") + 1] = "ROOT"
        return f"{program} {shlex.join(map(public_argument, args))}"


def public_argument(text: str) -> str:
    """Return an argument with the folders of absolute paths left out."""
    flag, equals, value = text.partition("=")
    if text.startswith("-") and equals:
        return f"{flag}={public_argument(value)}"
    path = Path(text)
    return f".../{path.name}" if path.is_absolute() or text.startswith("~") else text


def choose_rows(matrix: Matrix, dataset: str, methods: Sequence[str]) -> list[Row]:
    """Return the rows of a data set that are asked for, by method or by the row's own name."""
    rows = matrix.rows_of(dataset)
    return [row for row in rows if not methods or {row.method, row.name} & set(methods)]


def plan_cells(matrix: Matrix, datasets: Sequence[str], options: Options) -> list[Cell]:
    """List all cells, seed by seed, so that a whole table of one seed is there soonest.

    Args:
        matrix: The matrix.
        datasets: Data sets whose images are there.
        options: What was asked for.
    """
    special = {row.needs for row in matrix.rows if row.needs is not None}
    cells = []
    for seed, name in product(range(1, options.seeds + 1), datasets):
        dataset = matrix.datasets[name]
        rows = [row for row in choose_rows(matrix, name, options.methods) if is_ready(row, options)]
        for trial, row in product(_choose_trials(dataset, options), rows):
            overrides = _own_overrides(row, options.overrides, special)
            cells.append(_make_cell(dataset, row, seed, trial, options, overrides))
    return cells


def is_ready(row: Row, options: Options) -> bool:
    """Tell whether a row has what it needs beside the images; generated ones come with it."""
    given = {arg.partition("=")[0] for arg in options.overrides}
    return options.synthetic or row.needs is None or row.needs in given


def _own_overrides(
    row: Row, overrides: Sequence[str], special: AbstractSet[str]
) -> tuple[str, ...]:
    """Return the options that a row gets: not what only other rows need."""
    kept: list[str] = []
    skips = False
    for arg in overrides:
        flag, equals, _ = arg.partition("=")
        if flag.startswith("--"):
            skips = flag in special and flag != row.needs
        if not skips:
            kept.append(arg)
        elif equals:
            skips = False
    return tuple(kept)


def _choose_trials(dataset: MatrixDataset, options: Options) -> Sequence[int | None]:
    if dataset.trials is None:
        return [None]
    number = options.trials or (1 if options.synthetic else dataset.trials)
    return range(1, min(number, dataset.trials) + 1)


def _make_cell(
    dataset: MatrixDataset,
    row: Row,
    seed: int,
    trial: int | None,
    options: Options,
    overrides: tuple[str, ...],
) -> Cell:
    synthetic = options.synthetic
    preset = options.preset or ("demo" if synthetic else row.preset)
    kind = "synthetic" if synthetic else "real"
    name = f"{row.name}-{preset}-seed{seed}" + ("" if trial is None else f"-trial{trial}")
    if overrides:
        # Other settings are another cell; the results must not be taken for these.
        digest = hashlib.sha256(json.dumps(overrides).encode("utf-8")).hexdigest()
        name += f"-{digest[:8]}"
    return Cell(
        dataset=dataset,
        row=row,
        seed=seed,
        trial=trial,
        preset=preset,
        data=f"synthetic:{dataset.name}" if synthetic else str(options.data),
        synthetic=synthetic,
        overrides=overrides,
        folder=options.out / f"{dataset.name}-{kind}" / name,
    )
