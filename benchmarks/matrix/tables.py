"""The results as text: on the console, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from rich.console import Console
from rich.table import Table

from matrix.summary import Figure, ResultLine
from reid_core.rounding import one_decimal

__all__ = [
    "NOTE",
    "Cost",
    "costs",
    "figure_title",
    "print_lines",
    "render_csv",
    "render_markdown",
    "show_difference",
    "show_published",
]

NOTE = {
    False: "rank-1 and mAP in percent, last epoch, mean +- standard deviation over runs (seeds and "
    "trials). Difference: less the published figure, in percent points. A figure marked `believed` "
    "or `unsure` was not found in a public source. `best on TEST` is the epoch that was best on "
    "the test set, as papers often report: for comparison only.",
    True: "SYNTHETIC DATA: generated people. These figures say nothing of real images and must not "
    "be compared with published ones; no difference is shown. rank-1 and mAP in percent, last "
    "epoch, mean +- standard deviation over runs (seeds and trials).",
}
"""What the figures are, by whether they are synthetic."""

_MAIN = ("rank1", "mAP")


@dataclass(frozen=True)
class Cost:
    """What the runs of a row cost; empty texts where it is not known.

    Attributes:
        runs: How many.
        wall: Hours and minutes of a run over all its attempts, mean.
        memory: Largest resident memory.
        speed: Images per second of training, median.
        hardware: Where.
    """

    runs: int
    wall: str
    memory: str
    speed: str
    hardware: str


def figure_title(name: str) -> str:
    """Return a figure's name as people write it: ``rank-1``."""
    return name.replace("rank", "rank-")


def show_published(figure: Figure) -> str:
    """Format the published figure, with how sure it is where it was not confirmed."""
    if figure.published is None:
        return "-"
    doubt = f" ({figure.certainty})" if figure.certainty not in ("", "confirmed") else ""
    printed = f"{figure.published:.2f}".removesuffix("0")  # one decimal or two, as in the source
    return f"{printed}{doubt}"


def show_difference(figure: Figure) -> str:
    """Format the difference with its sign."""
    return "-" if figure.difference is None else one_decimal(figure.difference, signed=True)


def print_lines(lines: Sequence[ResultLine], *, synthetic: bool) -> None:
    """Print one table for every data set."""
    console = Console()
    console.width = max(console.width, 140)
    note = "SYNTHETIC DATA, not comparable with the published rows" if synthetic else "percent"
    for title, group in groupby(lines, key=lambda line: line.dataset.title):
        table = Table(title=f"{title} ({note})", title_justify="left")
        left = ("", "method", "preset", "protocol")
        for name in (*left, "runs", "rank-1", "published", "diff", "mAP", "published", "diff"):
            justify: Literal["left", "right"] = "left" if name in left else "right"
            if name == "preset":  # with all options that were passed on
                table.add_column(name, justify=justify, max_width=26)
            else:
                table.add_column(name, justify=justify, no_wrap=True)
        for line in group:
            cells = [line.kind, line.row.name, line.preset, line.protocol, str(len(line.records))]
            table.add_row(*cells, *_figure_cells(line))
        console.print(table)


def render_markdown(lines: Sequence[ResultLine], *, synthetic: bool) -> str:
    """Return the results as a Markdown document."""
    title = "# Benchmark results" + (" on SYNTHETIC data" if synthetic else "")
    parts = [title, NOTE[synthetic]]
    if not lines:
        parts.append("There are none yet.")
    for name, members in groupby(lines, key=lambda line: line.dataset.title):
        group = list(members)
        parts.append(f"## {name}{' (SYNTHETIC)' if synthetic else ''}")
        parts += [_results_table(group), _cost_table(group)]
    return "\n\n".join(parts) + "\n"


def render_csv(lines: Sequence[ResultLine]) -> str:
    """Return one row per figure; percent, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("kind", "dataset", "method", "row", "preset", "protocol", "figure", "runs")
    ours = ("mean", "std", "best_on_test_mean", "best_on_test_std")
    theirs = ("published", "certainty", "source", "difference", "seeds", "trials", "commits")
    writer.writerow([*columns, *ours, *theirs, "notes"])
    for line in lines:
        where = [line.kind, line.dataset.name, line.row.method, line.row.name, line.preset]
        seeds = dict.fromkeys(record["seed"] for record in line.records)
        trials = dict.fromkeys(record["trial"] for record in line.records if record["trial"])
        commits = dict.fromkeys(record.get("commit") or "" for record in line.records)
        for name, figure in line.figures.items():
            spreads = [figure.last, figure.best]
            numbers = [
                value
                for spread in spreads
                for value in ((None, None) if spread is None else (spread.mean, spread.std))
            ]
            writer.writerow(
                [
                    *(*where, line.protocol, name, figure.last.count if figure.last else 0),
                    *(_number(value) for value in numbers),
                    *(_number(figure.published), figure.certainty, line.source),
                    _number(figure.difference),
                    *(" ".join(map(str, items)) for items in (seeds, trials, commits)),
                    "; ".join(line.notes),
                ]
            )
    return text.getvalue()


def costs(line: ResultLine) -> Cost:
    """Return what the runs of a line cost."""

    def known(name: str) -> list[float]:
        return [record[name] for record in line.records if record.get(name) is not None]

    wall, memory, speed = (
        known(name) for name in ("wall_seconds", "peak_memory_bytes", "images_per_second")
    )
    minutes = round(statistics.fmean(wall) / 60) if wall else 0
    return Cost(
        runs=len(line.records),
        wall=f"{minutes // 60}:{minutes % 60:02d} h" if wall else "",
        memory=f"{max(memory) / 1e9:.1f} GB" if memory else "",
        speed=f"{statistics.median(speed):.0f} images/s" if speed else "",
        hardware="; ".join(dict.fromkeys(filter(None, map(_hardware, line.records)))),
    )


def _hardware(record: dict[str, object]) -> str:
    found = record.get("hardware")
    if not isinstance(found, dict):
        return ""
    gpus = found["gpus"] if record.get("device") != "cpu" else []
    return ", ".join([*gpus, f"{found['cpu']} ({found['cores']} cores)"])


def _results_table(lines: Sequence[ResultLine]) -> str:
    head = ["", "method", "preset", "protocol", "runs"]
    head += ["rank-1", "published", "difference", "mAP", "published", "difference"]
    head += ["best on TEST: rank-1", "mAP", "source"]
    rows = []
    for line in lines:
        best = [line.figures[name].best for name in _MAIN]
        rows.append(
            [
                *(line.kind, line.row.name, line.preset, line.protocol, str(len(line.records))),
                *_figure_cells(line),
                *("-" if spread is None else str(spread) for spread in best),
                "; ".join(filter(None, [line.source, *line.notes])) or "-",
            ]
        )
    return _markdown(head, rows, left=(0, 1, 2, 3, 13))


def _cost_table(lines: Sequence[ResultLine]) -> str:
    head = ("", "method", "preset", "runs", "time of a run", "peak memory", "speed", "hardware")
    rows = []
    for (name, preset), group in groupby(lines, key=lambda line: (line.row.name, line.preset)):
        line = next(group)
        cost = costs(line)
        cells = [line.kind, name, preset, str(cost.runs), cost.wall, cost.memory, cost.speed]
        rows.append([*cells, cost.hardware])
    return _markdown(head, rows, left=(0, 1, 2, 7))


def _figure_cells(line: ResultLine) -> list[str]:
    cells = []
    for name in _MAIN:
        figure = line.figures[name]
        cells += ["-" if figure.last is None else str(figure.last)]
        cells += [show_published(figure), show_difference(figure)]
    return cells


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    rule = ["---" if index in left else "---:" for index in range(len(head))]
    table = [head, rule, *([cell.replace("|", "\\|") or "-" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
