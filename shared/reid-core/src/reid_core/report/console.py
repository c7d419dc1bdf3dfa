"""The results table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_core.report.markup import (
    FIGURE_NAMES,
    deviation,
    group_by,
    interval,
    notes_of,
    percent,
    query_counts,
    row_label,
)
from reid_core.report.records import ResultRow
from reid_core.report.results import NOT_COMPARABLE

__all__ = ["print_results", "results_table"]

# The table takes what it needs, usually less than 100; a long name is not broken in a log file.
_PLAIN_WIDTH = 160


def results_table(rows: Sequence[ResultRow], *, synthetic: bool, title: str = "Results") -> Table:
    """Return the rows as a table: percent with one decimal, sources as notes below.

    Args:
        rows: The rows; those of one protocol are grouped in the order given.
        synthetic: Whether the images were generated; then said in the title.
        title: Title of the table.

    Returns:
        A table that fits 100 columns where the names of a protocol and its stages have at most 40
        characters together. Intervals, and standard deviations over trials, stand below their
        figures.
    """
    note = "SYNTHETIC DATA: says nothing about real data; percent" if synthetic else "percent"
    # Text objects, so that square brackets in names are not taken for rich's markup.
    table = Table(
        title=Text(f"{title} ({note})", style="bold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("Protocol", overflow="fold")
    table.add_column("Stage", no_wrap=True)
    for name in ("R-1", "R-5", "R-10", "mAP", "mINP", "chance", "queries"):
        table.add_column(name, justify="right", no_wrap=True)
    sources: list[str] = []
    for protocol, group in group_by(rows, lambda row: row.protocol).items():
        for row in group:
            scores = (row.rank1, row.rank5, row.rank10, row.mean_ap, row.mean_inp)
            table.add_row(
                Text(protocol),
                Text(row_label(row) + _mark_source(row, synthetic, sources)),
                *(percent(score) for score in (*scores, row.chance_rank1)),
                query_counts(row).replace(" ", ""),
                style="dim" if row.stage == "published" else "",
            )
            if row.deviations:
                label = f"  std of {row.num_trials} trials"
                deviations = (deviation(row, name) for name in FIGURE_NAMES)
                table.add_row("", label, *deviations, "", "", style="dim")
            if row.intervals:
                intervals = (interval(row, name) for name in FIGURE_NAMES)
                table.add_row("", Text(f"  {row.interval_label}"), *intervals, "", "", style="dim")
        table.add_section()
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    notes += notes_of(rows)
    table.caption = Text("\n".join(notes)) if notes else None
    return table


def print_results(
    rows: Sequence[ResultRow],
    *,
    synthetic: bool,
    title: str = "Results",
    file: TextIO | None = None,
) -> None:
    """Write the table to a stream: in colour on a terminal, else as plain text.

    Args:
        rows: The rows; those of one protocol are grouped in the order given.
        synthetic: Whether the images were generated; then said in the title.
        title: Title of the table.
        file: Stream; standard output where None.
    """
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=_PLAIN_WIDTH)
    console.print(results_table(rows, synthetic=synthetic, title=title))


def _mark_source(row: ResultRow, synthetic: bool, sources: list[str]) -> str:
    """Return the number of the row's note, and add the note where it is new."""
    words = [row.source.rstrip(".")] if row.source else []
    if row.stage == "published":
        words.append("published figures")
        if synthetic:
            words.append(NOT_COMPARABLE)
    if not words:
        return ""
    source = "; ".join(words)
    if source not in sources:
        sources.append(source)
    return f"[{sources.index(source) + 1}]"
