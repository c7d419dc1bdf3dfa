"""Rows as Markdown tables and as a plot of cost against gallery size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cost.loglog import Line, Panel, draw
from cost.rounds import Row

__all__ = ["explanation", "plot", "sweep_table", "table"]

NOTE = (
    "Synthetic features. Times are ratios to the matrix product of the same features in the same "
    "process (lower is better; 1 is the product alone), medians of {rounds} interleaved rounds. "
    "Memory is the peak beyond what is held with the features loaded; resident is the whole "
    "process with Python, PyTorch and the features."
)


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: a line per case and contestant, a column per number of threads."""
    threads = sorted({row.threads for row in rows})
    heads = ["case", "contestant", "queries"]
    heads += [f"x product, {_threads(number)}" for number in threads]
    heads += ["memory beyond the features", "resident", "mAP"]
    lines = [_line(heads), _line(["---"] * 3 + ["---:"] * (len(heads) - 3))]
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row.case, row.contestant), {})[row.threads] = row
    for (case, contestant), by_threads in groups.items():
        row = next(iter(by_threads.values()))
        asked = f"{row.num_queries:,}"
        if row.num_queries < row.of_queries:
            asked += f" of {row.of_queries:,}"
        cells = [case, contestant, f"{asked} x {row.num_gallery:,}"]
        cells += [_ratio(by_threads.get(number)) for number in threads]
        cells += [text(list(by_threads.values())) for text in (_memory, _resident, _mean_ap)]
        lines.append(_line(cells))
    return "\n".join(lines)


def explanation(rows: Sequence[Row]) -> str:
    """Return what is to be known of a table: how it was measured, on what, what each one is."""
    machines = list(dict.fromkeys(row.machine for row in rows))
    rounds = " or ".join(str(number) for number in sorted({row.rounds for row in rows}))
    does = dict.fromkeys((row.contestant, row.does) for row in rows)
    lines = [NOTE.format(rounds=rounds), "", *(f"Measured on {text}." for text in machines), ""]
    lines += [f"- **{name}**: {text}" for name, text in does]
    failed = [row for row in rows if row.error]
    lines += [f"- {row.case}: {row.contestant} failed: {row.error}" for row in failed]
    return "\n".join(lines)


def sweep_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of milliseconds per query: contestants by gallery sizes."""
    sizes = sorted({row.num_gallery for row in rows})
    lines = [
        _line(["ms per query", *(f"{size:,}" for size in sizes)]),
        _line(["---", *(["---:"] * len(sizes))]),
    ]
    for contestant in dict.fromkeys(row.contestant for row in rows):
        cost = {row.num_gallery: _cost(row) for row in rows if row.contestant == contestant}
        found = [cost.get(size) for size in sizes]
        lines.append(_line([contestant, *("-" if ms is None else f"{ms:.3g}" for ms in found)]))
    return "\n".join(lines)


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Write an SVG of time per query and of memory against gallery size."""
    cost, memory = [], []
    for contestant in dict.fromkeys(row.contestant for row in rows):
        own = [row for row in rows if row.contestant == contestant]
        times = [(row.num_gallery, ms) for row in own if (ms := _cost(row)) is not None]
        # Less than a megabyte is noise.
        peaks = [(row.num_gallery, max(1.0, row.memory / 1e6)) for row in own if row.memory]
        cost.append(Line(contestant, times))
        memory.append(Line(contestant, peaks))
    first = rows[0]
    x_title = f"gallery images (synthetic, D = {first.dim}, {_threads(first.threads)})"
    panels = [
        Panel("milliseconds per query", x_title, cost),
        Panel("MB beyond the features", x_title, memory),
    ]
    label = "Cost of an evaluation against the size of the gallery, logarithmic axes."
    path.write_text(draw(panels, label=label), encoding="utf-8")


def _cost(row: Row) -> float | None:
    return None if row.seconds is None else 1e3 * row.seconds / row.num_queries


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"


def _ratio(row: Row | None) -> str:
    if row is None:
        return "-"
    return "failed" if row.ratio is None else f"{row.ratio:.2f}"


def _memory(rows: Sequence[Row]) -> str:
    if all(row.memory is None for row in rows):
        return "-"
    text = f"{max(row.memory or 0 for row in rows) / 1e6:,.0f} MB"
    if "memory-mapped" in rows[0].case:
        anonymous = max(row.anonymous or 0 for row in rows) / 1e6
        text += f" ({anonymous:,.0f} MB anonymous)"
    return text


def _resident(rows: Sequence[Row]) -> str:
    largest = max(row.resident or 0 for row in rows)
    return f"{largest / 1e9:.2f} GB" if largest else "-"


def _mean_ap(rows: Sequence[Row]) -> str:
    row = rows[0]
    if row.mean_ap is None:
        return "-"
    doubt = " (differs)" if any(row.agrees is False for row in rows) else ""
    return f"{row.mean_ap:.6f}{doubt}"
