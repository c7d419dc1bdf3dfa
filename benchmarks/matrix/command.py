"""The benchmark from its arguments to its exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from matrix.cells import Cell, choose_rows, is_ready, plan_cells
from matrix.images import explain_missing_data, find_datasets
from matrix.ledger import LEDGER_NAME, read_ledger
from matrix.options import ALL, Options, parse_options
from matrix.page import render_page
from matrix.processes import Processes
from matrix.running import CellRunner, Outcome, make_slots, run_all
from matrix.schema import Matrix, read_matrix
from matrix.summary import summarise
from matrix.tables import print_lines, render_csv, render_markdown
from reid_core.errors import ConfigError, ReIDError
from reid_core.files import atomic_file, make_parent
from reid_core.rounding import percent

__all__ = ["main"]

_BENCHMARKS = Path(__file__).parents[1]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return the exit status.

    0: every cell is done. 1: a cell failed. 2: nothing could be run. 130 or 143: stopped.
    """
    try:
        matrix = read_matrix(_BENCHMARKS / "matrix.toml")
        options = parse_options(argv, matrix, _BENCHMARKS / "results")
        return _run(matrix, options)
    except ReIDError as error:
        print(f"benchmark: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(matrix: Matrix, options: Options) -> int:
    names = list(matrix.datasets) if options.dataset == ALL else [options.dataset]
    names = [name for name in names if choose_rows(matrix, name, options.methods)]
    if options.list_methods:
        wanted = [] if options.data is None or options.report_only else names
        rows = [row for name in wanted for row in choose_rows(matrix, name, options.methods)]
        methods = dict.fromkeys(row.method for row in rows if row.script is None)
        print("\n".join(methods))
        return 0
    if options.report_only:
        if not read_ledger(options.results):
            raise ConfigError(f"there are no records in {options.results / LEDGER_NAME} yet")
        for synthetic in (False, True):
            _report(matrix, options, names, [], synthetic=synthetic)
        return 0
    if options.data is None:
        explain_missing_data(names, options)
        return 2
    if not options.synthetic:
        names = find_datasets(names, options)
    if not names:
        return 2
    for name in names:
        for row in choose_rows(matrix, name, options.methods):
            if not is_ready(row, options):
                print(f"{row.name} on {name} is left out: it needs {row.needs} P; {row.made_by}")
    cells = plan_cells(matrix, names, options)
    if not cells:
        return 2
    make_parent(options.results / LEDGER_NAME)
    processes = Processes()
    with _stopping(processes) as stopped:
        outcomes = _run_cells(cells, options, processes, stopped)
    _report(matrix, options, names, outcomes, synthetic=options.synthetic)
    return _conclude(cells, outcomes, stopped)


def _run_cells(
    cells: Sequence[Cell], options: Options, processes: Processes, stopped: list[int]
) -> list[Outcome]:
    slots = make_slots(options.devices)
    guard = threading.Lock()

    def say(line: str) -> None:
        with guard:
            print(line, flush=True)

    runner = CellRunner(
        processes,
        results=options.results,
        environments=options.environments,
        echo=len(slots) == 1,
        say=say,
    )
    for cell in cells:
        runner.program(cell)  # what is not installed is found before the first cell

    def watch() -> None:
        # A parent that was killed cannot say so; its number goes to nobody else while it is ours.
        if options.parent is not None and os.getppid() != options.parent and not stopped:
            stopped.append(signal.SIGTERM)
            processes.stop()

    return run_all(
        cells,
        slots,
        runner,
        processes=processes,
        finished=lambda outcome, number: say(_status_line(outcome, number)),
        watch=watch,
    )


@contextmanager
def _stopping(processes: Processes) -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into an orderly stop; yields the list that the signal goes to."""
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        # Not here: the lock of the processes may be held by the very code that was interrupted.
        threading.Thread(target=processes.stop).start()

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # not under nohup
        numbers.append(hangup)
    before: list[Callable[[int, FrameType | None], object] | int | None] = [
        signal.signal(number, stop) for number in numbers
    ]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _status_line(outcome: Outcome, number: str) -> str:
    state = {"kept": "done before", "stopped": "stopped, to be continued"}
    text = f"[{number}] {outcome.cell.label}: {state.get(outcome.state, outcome.state)}"
    if outcome.state == "failed":
        return f"{text}, {outcome.problem}"
    if outcome.record is None:
        return text
    figures = [
        f"{protocol} rank-1 {percent(scores['rank1'])} mAP {percent(scores['mAP'])}"
        for protocol, scores in outcome.record["last_epoch"].items()
        if protocol in outcome.cell.dataset.protocols and {"rank1", "mAP"} <= set(scores)
    ]
    return f"{text}; {', '.join(figures)}"


def _report(
    matrix: Matrix,
    options: Options,
    names: Sequence[str],
    outcomes: Sequence[Outcome],
    *,
    synthetic: bool,
) -> None:
    """Write tables and page from the whole ledger; print those of this run, or of the data set."""
    records = read_ledger(options.results)
    lines = summarise(matrix, records, synthetic=synthetic)
    stem = options.results / f"matrix{'-synthetic' if synthetic else ''}"
    written = {
        stem.with_suffix(".md"): render_markdown(lines, synthetic=synthetic),
        stem.with_suffix(".csv"): render_csv(lines),
        stem.with_suffix(".html"): render_page(lines, synthetic=synthetic),
    }
    if not lines and not stem.with_suffix(".md").exists():
        return
    for path, text in written.items():
        make_parent(path)
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))
    mine = [outcome.record for outcome in outcomes if outcome.record is not None]
    shown = mine if not options.report_only else records
    print()
    print_lines(summarise(matrix, shown, synthetic=synthetic, datasets=names), synthetic=synthetic)
    files = ", ".join(os.path.relpath(path) for path in written)
    print(f"\nTables: {files}\nLedger: {os.path.relpath(options.results / LEDGER_NAME)}")


def _conclude(cells: Sequence[Cell], outcomes: Sequence[Outcome], stopped: Sequence[int]) -> int:
    """Say what is left; return the exit status."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        print(f"\n{len(failed)} of {len(cells)} cells failed:", file=sys.stderr)
    for outcome in failed:
        print(f"\n{outcome.cell.label}: {outcome.problem}", file=sys.stderr)
        for line in outcome.lines:
            print(f"  | {line}", file=sys.stderr)
        if outcome.cell.log.exists():
            print(f"  whole output: {os.path.relpath(outcome.cell.log)}", file=sys.stderr)
    if stopped:
        done = sum(outcome.record is not None for outcome in outcomes)
        print(
            f"\nstopped; {done} of {len(cells)} cells are done. The same command goes on from here",
            file=sys.stderr,
        )
        return 128 + stopped[0]
    return 1 if failed else 0
