"""Running cells: one at a time on each device, whatever happens to the others."""

from __future__ import annotations

import os
import queue
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from matrix.attempts import Attempts
from matrix.cells import Cell
from matrix.ledger import Record, add_to_ledger
from matrix.processes import Processes, last_lines
from matrix.surroundings import describe_hardware, describe_sources, describe_versions, num_cpus
from reid_core.errors import ConfigError, ReIDError

__all__ = ["CellRunner", "Outcome", "Slot", "find_program", "make_slots", "run_all"]

_BENCHMARKS = Path(__file__).parents[1]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Slot:
    """A place where one cell runs at a time.

    Attributes:
        device: ``cpu``, the number of a GPU, or ``auto`` for what the command chooses.
        env: Variables that its commands get.
    """

    device: str
    env: Mapping[str, str]

    @property
    def option(self) -> str | None:
        """Value of ``--device``: with it a missing GPU is an error, not a silent change."""
        return {"auto": None, "cpu": "cpu"}.get(self.device, "cuda")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: The cell.
        state: ``done``, ``kept`` (done before), ``failed``, or ``stopped`` before its end.
        record: Its record in the ledger, where it is done.
        problem: What went wrong, where it failed.
        lines: Last lines of its output, where it failed.
    """

    cell: Cell
    state: Literal["done", "kept", "failed", "stopped"]
    record: Record | None = None
    problem: str = ""
    lines: Sequence[str] = ()


def make_slots(devices: Sequence[str]) -> list[Slot]:
    """Return the places to run cells at.

    Args:
        devices: As in ``Options``.
    """
    if not devices:
        return [Slot("auto", {})]
    shared = {}
    if len(devices) > 1 and "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(1, num_cpus() // len(devices)))
    return [
        Slot(device, {**shared, "CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device})
        for device in devices
    ]


def find_program(name: str, environments: Path | None, method: str) -> str:
    """Return the path of a command.

    Args:
        name: The command.
        environments: Folder with an environment for each method, or None.
        method: Whose environment.

    Raises:
        ConfigError: When it is not installed.
    """
    folders = [] if environments is None else [_bin(environments / method)]
    if environments is None:
        folders = [os.environ.get("PATH", ""), str(Path(sys.executable).parent)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise ConfigError(
            f"{name} is not installed; run this as `nox -s benchmark-...`, which makes an "
            f"environment for every method, or install it with pip install -e packages/{method}"
        )
    return found


class CellRunner:
    """Runs one cell after the other in the threads of ``run_all``.

    Args:
        processes: What runs now.
        results: Folder of the ledger.
        environments: Folder with an environment for each method, or None.
        echo: Show the output of the commands.
        say: Prints a line.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        results: Path,
        environments: Path | None,
        echo: bool,
        say: Say,
    ) -> None:
        self._processes = processes
        self._results = results
        self._environments = environments
        self._echo = echo
        self._say = say

    def program(self, cell: Cell) -> list[str]:
        """Return the beginning of a cell's command.

        Raises:
            ConfigError: When the command is not installed.
        """
        if cell.row.script is not None:
            return [sys.executable, str(_BENCHMARKS / cell.row.script)]
        method = cell.row.method
        return [find_program(f"{method}-train", self._environments, method)]

    def __call__(self, cell: Cell, slot: Slot, number: str) -> Outcome:
        """Train a cell unless that is done, and put it into the ledger.

        Args:
            cell: The cell.
            slot: Where.
            number: What the console calls it, e.g. ``3/12``.
        """
        try:
            with Attempts(cell) as attempts:
                before = attempts.is_finished
                if not before:
                    unfinished = self._train(cell, slot, attempts, number)
                    if unfinished is not None:
                        return unfinished
                record = add_to_ledger(self._results, cell, attempts)
        except (ReIDError, OSError) as error:
            return Outcome(cell, "failed", problem=str(error))
        return Outcome(cell, "kept" if before else "done", record)

    def _train(self, cell: Cell, slot: Slot, attempts: Attempts, number: str) -> Outcome | None:
        """Start or continue the training; None when it is done."""
        resumes = cell.is_resumable
        arguments = [*cell.arguments(slot.option), "--out", str(cell.folder)]
        if resumes:
            arguments = cell.resume_arguments(slot.option)
        elif cell.folder.exists():
            # It was killed before it could be continued; it would refuse its own folder.
            shutil.rmtree(cell.folder)
        program = self.program(cell)
        attempts.start(self._describe(cell, slot))
        self._say(
            f"[{number}] {cell.label}: {'continued' if resumes else 'started'}"
            f"{'' if slot.device == 'auto' else f' on {_device_name(slot.device)}'}, "
            f"output in {os.path.relpath(cell.log)}"
        )
        with cell.log.open("ab") as log:
            log.write(f"$ {shlex.join([*program, *arguments])}\n".encode())
            begin = log.tell()
        ended = self._processes.run(
            [*program, *arguments],
            env={**os.environ, **slot.env},
            log=cell.log,
            echo=self._echo,
        )
        if ended is None:
            return Outcome(cell, "stopped")
        attempts.end(ended)
        if ended.status == 0 and cell.is_whole:
            return None
        if self._processes.stopping:
            return Outcome(cell, "stopped")
        problem = f"exit status {ended.status}"
        if ended.status == 0:
            problem = f"it left no results.json and report.html in {cell.folder}"
        elif ended.status < 0:
            problem = f"ended by signal {-ended.status}"
        return Outcome(cell, "failed", problem=problem, lines=last_lines(cell.log, begin))

    def _describe(self, cell: Cell, slot: Slot) -> dict[str, Any]:
        python = sys.executable
        if cell.row.script is None and self._environments is not None:
            found = shutil.which("python", path=_bin(self._environments / cell.row.method))
            python = found or python
        used = slot.device if slot.device != "auto" else _used_device(cell.overrides)
        hardware = describe_hardware(used)
        return {
            "command": cell.public_command(slot.option),
            **describe_sources(),
            "versions": describe_versions(python),
            "hardware": hardware,
            "device": "cpu" if slot.device == "auto" and not hardware["gpus"] else used,
        }


def run_all(
    cells: Sequence[Cell],
    slots: Sequence[Slot],
    work: Callable[[Cell, Slot, str], Outcome],
    *,
    processes: Processes,
    finished: Callable[[Outcome, str], None],
    watch: Callable[[], None],
) -> list[Outcome]:
    """Run cells in their order, one at a time in each slot.

    Args:
        cells: The cells.
        slots: The slots.
        work: Runs a cell. What it raises stops everything, and is raised here.
        processes: What runs now; once they stop, no cell begins.
        finished: Called with each outcome, in the thread of its slot.
        watch: Called several times per second in this thread.

    Returns:
        The outcomes, in the order of the cells; cells that were not begun are left out.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(cells)):
        waiting.put(index)
    outcomes: dict[int, Outcome] = {}
    errors: list[BaseException] = []

    def serve(slot: Slot) -> None:
        try:
            work_through(slot)
        except BaseException as error:
            errors.append(error)
            processes.stop()

    def work_through(slot: Slot) -> None:
        while not processes.stopping:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            number = f"{index + 1}/{len(cells)}"
            outcomes[index] = work(cells[index], slot, number)
            finished(outcomes[index], number)

    threads = [threading.Thread(target=serve, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        next(thread for thread in threads if thread.is_alive()).join(0.2)
        watch()
        processes.press()
    if errors:
        raise errors[0]
    return [outcomes[index] for index in sorted(outcomes)]


def _used_device(overrides: Sequence[str]) -> str:
    """Return the device that a command chooses by itself: ``cpu``, or the number of a GPU."""
    asked = ""
    for flag, value in pairwise([*" ".join(overrides).replace("=", " ").split(), ""]):
        asked = value if flag in ("--device", "--run.device") else asked
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked == "cpu" or visible == "":
        return "cpu"
    index = asked.partition(":")[2] or "0"
    if visible is None:
        return index
    numbers = visible.split(",")
    return numbers[int(index)].strip() if int(index) < len(numbers) else "cpu"


def _device_name(device: str) -> str:
    return "the CPU" if device == "cpu" else f"GPU {device}"


def _bin(environment: Path) -> str:
    return str(environment / ("Scripts" if os.name == "nt" else "bin"))
