"""Pieces of text and markup that the sections of the page share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from html import escape
from typing import TypeVar

from reid_core import rounding
from reid_core.report.records import ResultRow, Stage

__all__ = [
    "FIGURE_NAMES",
    "deviation",
    "escape",
    "group_by",
    "heading",
    "interval",
    "notes_of",
    "percent",
    "protocol_anchor",
    "query_counts",
    "row_label",
    "variant_suffix",
]

FIGURE_NAMES = ("rank1", "rank5", "rank10", "mAP", "mINP")
"""Names of a row's figures, intervals and deviations, in the order of the table's columns."""

_STAGE_LABELS: dict[Stage, str] = {
    "untrained": "Untrained",
    "trained": "Trained",
    "evaluated": "Evaluated",
    "published": "Published",
}

_T = TypeVar("_T")
_K = TypeVar("_K")


def percent(value: float | None) -> str:
    """Format a fraction as percent with one decimal and no sign; an unknown one as a dash."""
    return "-" if value is None or math.isnan(value) else rounding.percent(value)


def interval(row: ResultRow, name: str) -> str:
    """Format one of a row's intervals in percent, ``36.5-45.0``; an unknown one as empty text."""
    if name not in row.intervals:
        return ""
    low, high = row.intervals[name]
    return f"{percent(low)}-{percent(high)}"


def deviation(row: ResultRow, name: str) -> str:
    """Format one of a row's standard deviations in percent; an unknown one as empty text."""
    return percent(row.deviations[name]) if name in row.deviations else ""


def row_label(row: ResultRow) -> str:
    """Return what a row shows: the network's state, and how it differs from the plain ranking."""
    return f"{_STAGE_LABELS[row.stage]}{variant_suffix(row.variant)}"


def variant_suffix(variant: str) -> str:
    """Return a variant as words behind the name of what it varies.

    Another feature and a group of parts take the place of the plain ranking's features, ``, face
    stream``; anything else is an addition to it, `` + re-ranking``.

    Args:
        variant: A name from ``Evaluation.variants``; empty for the plain ranking.
    """
    if variant.endswith((" feature", " stream")):
        return f", {variant}"
    return f" + {variant}" if variant else ""


def query_counts(row: ResultRow) -> str:
    """Format a row's number of queries as ``valid / all``; an unknown one as a dash."""
    if row.num_queries is None:
        return "-"
    valid = "?" if row.num_valid is None else _count(row.num_valid)
    return f"{valid} / {_count(row.num_queries)}"


def _count(value: float) -> str:
    """Format a count, or a mean of counts."""
    return f"{value:,.1f}".removesuffix(".0")


def notes_of(rows: Iterable[ResultRow]) -> list[str]:
    """Return the notes of all rows, each once, with the protocol that it is about.

    A note that holds for some of the protocol's own rows only (one stream's images lack something)
    names them by their labels.
    """
    notes = []
    for protocol, group in group_by(rows, lambda row: row.protocol).items():
        own = [row for row in group if row.stage != "published"]
        for note in dict.fromkeys(note for row in own for note in row.notes):
            labels = [row_label(row) for row in own if note in row.notes]
            where = "" if len(labels) == len(own) else f" ({'; '.join(labels)})"
            notes.append(f"{protocol}{where}: {note}.")
    return notes


def protocol_anchor(protocol: str) -> str:
    """Return the page anchor of a protocol's definition."""
    return "protocol-" + re.sub(r"[^a-z0-9_]+", "-", protocol.lower())


def heading(text: str, anchor: str, *, synthetic: bool) -> str:
    """Return a section heading, with the mark of generated data where it applies."""
    mark = ' <span class="pill synthetic">synthetic data</span>' if synthetic else ""
    return f'<h2 id="{anchor}">{escape(text)}{mark}</h2>'


def group_by(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """Group items by key; groups in order of first appearance, items in their given order."""
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
