"""The ledger: one record for every finished cell."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matrix.attempts import Attempts
from matrix.cells import Cell, public_argument
from matrix.journal import Journal, read_journal
from reid_core.errors import ReIDError

__all__ = ["FORMAT", "LEDGER_NAME", "Record", "add_to_ledger", "read_ledger"]

FORMAT = 1
"""Layout of a record; raised when its meaning changes."""

LEDGER_NAME = "ledger.jsonl"

_FIGURE = re.compile(r"(rank[0-9]+|mAP|mINP)(_std)?|num_(valid|queries|gallery|trials)")

Record = dict[str, Any]


def add_to_ledger(folder: Path, cell: Cell, attempts: Attempts) -> Record:
    """Add a finished cell to the ledger, unless it is there.

    Args:
        folder: Folder of the ledger.
        cell: The cell.
        attempts: Its attempts.

    Returns:
        Its record.

    Raises:
        ReIDError: When the run's results cannot be read, or the ledger cannot be written.
    """
    with Journal(folder / LEDGER_NAME) as journal:
        known = next((item for item in journal.read() if item.get("id") == attempts.id), None)
        if known is not None:
            return known
        record = _make_record(cell, attempts)
        journal.append(record)
    return record


def read_ledger(folder: Path) -> list[Record]:
    """Read all records, in the order in which the cells were finished.

    Raises:
        JournalError: When a line is damaged, or was written by a newer version.
    """
    path = folder / LEDGER_NAME
    records = read_journal(path)
    newer = [record.get("format") for record in records if record.get("format") != FORMAT]
    if newer:
        raise ReIDError(f"{path} has records of format {newer[0]}; this version reads {FORMAT}")
    return records


def _make_record(cell: Cell, attempts: Attempts) -> Record:
    results = _read_json(cell.folder / "results.json")
    metrics = read_journal(cell.folder / "metrics.jsonl")
    best = results.get("best_on_test") or {}
    selected = results.get("selected", "last")
    try:
        figures = _figures(results["results"])
        record = {
            "format": FORMAT,
            "id": attempts.id,
            "synthetic": bool(results["synthetic"]),
            "dataset": cell.dataset.name,
            "method": cell.row.method,
            "row": cell.row.name,
            "preset": cell.preset,
            "overrides": [public_argument(text) for text in cell.overrides],
            "seed": cell.seed,
            "trial": cell.trial,
            "epochs": results.get("epochs"),
            "fingerprint": results["fingerprint"],
            "last_epoch": figures if selected == "last" else _last_evaluation(metrics),
            "selected": selected,
            **({} if selected == "last" else {"selected_results": figures}),
            "best_on_test": {
                "epoch": best.get("epoch"),
                "results": _figures(best.get("results") or {}),
            },
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ReIDError(
            f"{cell.folder / 'results.json'} is no result of a training ({error!r})"
        ) from error
    if record["synthetic"] != cell.synthetic:
        kind = "synthetic" if record["synthetic"] else "real"
        raise ReIDError(f"{cell.folder} holds results on {kind} images; remove it and start again")
    return {**record, "images_per_second": _images_per_second(metrics), **attempts.totals()}


def _figures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Keep the numbers that say something of the ranking."""
    return {
        protocol: {name: value for name, value in figures.items() if _FIGURE.fullmatch(name)}
        for protocol, figures in results.items()
    }


def _last_evaluation(metrics: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    evaluations = [item for item in metrics if item.get("kind") == "eval"]
    return _figures(evaluations[-1]["results"]) if evaluations else {}


def _images_per_second(metrics: list[dict[str, Any]]) -> float | None:
    """Return the median over the epochs."""
    rates = [
        item["timing"]["images_per_second"]
        for item in metrics
        if item.get("kind") == "train" and "timing" in item
    ]
    return round(statistics.median(rates), 2) if rates else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReIDError(f"cannot read {path}: {error}; remove {path.parent}") from error
    if not isinstance(value, dict):
        raise ReIDError(f"{path} is no JSON object; remove {path.parent}")
    return value
