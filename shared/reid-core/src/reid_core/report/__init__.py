"""Results for people: one self-contained HTML file, and a table for the terminal."""

from __future__ import annotations

from reid_core.report.console import print_results, results_table
from reid_core.report.page import render_report, write_report
from reid_core.report.records import (
    APDistribution,
    Citation,
    CmcCurve,
    MatchStatus,
    QueryReason,
    RankedEntry,
    RankedList,
    Report,
    ResultRow,
    Stage,
    read_metrics,
)

__all__ = [
    "APDistribution",
    "Citation",
    "CmcCurve",
    "MatchStatus",
    "QueryReason",
    "RankedEntry",
    "RankedList",
    "Report",
    "ResultRow",
    "Stage",
    "print_results",
    "read_metrics",
    "render_report",
    "results_table",
    "write_report",
]
