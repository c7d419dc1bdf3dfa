"""What ``reid-eval`` leaves: results.json, a table of queries per protocol, report.html."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from reid_core import __version__
from reid_core.commands.console import say
from reid_core.commands.feature_evaluator import Evaluated
from reid_core.commands.query_table import query_table_name, write_query_table
from reid_core.data.layout import SYNTHETIC_MARKER
from reid_core.data.naming import dataset_title
from reid_core.data.sample import Sample
from reid_core.evaluation.cli import FeatureArguments
from reid_core.evaluation.evaluator import Evaluation
from reid_core.evaluation.query_figures import result_intervals
from reid_core.evaluation.tables.feature_splits import FeatureFiles
from reid_core.files import write_json
from reid_core.report import RankedList, Report, print_results, write_report
from reid_core.report.assemble import (
    ap_distributions,
    cmc_curves,
    protocol_citations,
    ranked_lists,
    result_row,
)

__all__ = ["publish_features"]

logger = logging.getLogger(__name__)

Summaries = Mapping[Evaluated, Mapping[str, Any]]


def publish_features(
    folder: Path,
    files: FeatureFiles,
    evaluated: Sequence[Evaluated],
    arguments: FeatureArguments,
    *,
    notes: Sequence[str],
    facts: Mapping[str, str],
    command: str,
) -> None:
    """Write the results into ``folder``, and print the table or, with ``--json``, the record.

    Args:
        folder: An existing folder.
        files: What was evaluated.
        evaluated: The results.
        arguments: Intervals, number of ranked lists, ``--json``.
        notes: What is to be known of the features.
        facts: Label to text, for the head of the report.
        command: Command line.

    Raises:
        OutputError: Something cannot be written.
    """
    summaries = {item: _summary(item, arguments) for item in evaluated}
    synthetic = _has_synthetic_images(files)
    record = _record(files, summaries, arguments, notes, command, synthetic=synthetic)
    write_json(folder / "results.json", record)
    for item in evaluated:
        _write_queries(folder / query_table_name(item.result, item.variant), item)
    ranked, missing = _ranked_lists(files, evaluated, arguments)
    if missing:
        logger.info("the report shows no ranked lists: %s", missing)
    report = _report(folder, files, summaries, ranked, facts, command, synthetic=synthetic)
    write_report(report, folder / "report.html")
    if arguments.json:
        json.dump(record, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    print_results(report.rows, synthetic=synthetic, title=report.title)
    for name in ("results.json", "queries-*.csv", "report.html"):
        say(f"wrote {folder / name}")


def _summary(item: Evaluated, arguments: FeatureArguments) -> dict[str, Any]:
    """Return the figures, with intervals where they are asked for."""
    figures = {**item.result.summary(), "scoring": _scoring(item, arguments)}
    if arguments.confidence is None:
        return figures
    intervals = result_intervals(
        item.result,
        item.chosen.labels,
        confidence=arguments.confidence,
        resample=arguments.resample,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    return {
        **figures,
        "confidence": arguments.confidence,
        "intervals": {name: list(ends) for name, ends in intervals.items()},
    }


def _scoring(item: Evaluated, arguments: FeatureArguments) -> str:
    """Return what images were ranked by, in words."""
    if arguments.metric == "inner-product":
        return "inner product"
    num_parts = next(iter(item.chosen.splits.values())).parts[0].num_parts
    if num_parts == 1:
        return item.result.scoring
    return item.result.scoring.replace("cosine", f"sum of the cosines of {num_parts} parts")


def _record(
    files: FeatureFiles,
    summaries: Summaries,
    arguments: FeatureArguments,
    notes: Sequence[str],
    command: str,
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Return what results.json holds; variants stand beside the plain results."""
    by_variant: dict[str, dict[str, Any]] = {}
    for item, figures in summaries.items():
        by_variant.setdefault(item.variant, {})[item.result.protocol.name] = figures
    sources = dict.fromkeys(
        path
        for table in files.tables
        for path in (table.source, table.labels_source)
        if path is not None
    )
    bootstrap = {
        "resample": arguments.resample,
        "resamples": arguments.resamples,
        "seed": arguments.seed,
    }
    features = [
        {
            "file": str(table.source),
            "shape": list(table.features.shape),
            "dtype": str(table.features.dtype),
        }
        for table in files.tables
    ]
    return {
        "versions": {"reid-core": __version__},
        "files": [_fingerprint(path) for path in sources],
        "features": features,
        "synthetic": synthetic,
        "metric": arguments.metric,
        "notes": list(notes),
        "command": command,
        **({} if arguments.confidence is None else {"bootstrap": bootstrap}),
        "results": by_variant.pop(""),
        **({"variants": by_variant} if by_variant else {}),
    }


def _has_synthetic_images(files: FeatureFiles) -> bool:
    """Tell whether some path of an image leads into a data set that was generated."""
    folders = {
        table.root / name
        for table in files.tables
        for name in {os.path.dirname(str(path)) for path in table.columns.get("path", ())}
    }
    places = {place for folder in folders for place in (folder, *folder.parents)}
    return any((place / SYNTHETIC_MARKER).is_file() for place in places)


def _write_queries(path: Path, item: Evaluated) -> None:
    """Write the table of queries; ``row`` is the row in the file, from 0."""

    def describe(split: str, position: int) -> tuple[object, ...]:
        labels = item.chosen.labels[split]
        table, row = labels.rows.place(position)
        image = table.columns["path"][row] if "path" in table.columns else ""
        return table.source, row, image, labels.pids[position], labels.camids[position]

    write_query_table(path, item.result, ("file", "row", "path", "pid", "camid"), describe)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": str(path), "bytes": path.stat().st_size, "sha256": digest}


def _report(
    folder: Path,
    files: FeatureFiles,
    summaries: Summaries,
    ranked: Sequence[RankedList],
    facts: Mapping[str, str],
    command: str,
    *,
    synthetic: bool,
) -> Report:
    plain = tuple(item.result for item in summaries if not item.variant)
    whole = Evaluation(samples={}, features={}, results=plain)
    datasets = ", ".join(dict.fromkeys(dataset_title(item.protocol.dataset) for item in plain))
    source = files.tables[0].source
    return Report(
        title=f"{source.name} on {'synthetic ' if synthetic else ''}{datasets}",
        subtitle=folder.resolve().name,
        method=source.stem,
        dataset=datasets,
        synthetic=synthetic,
        facts={
            **facts,
            "packages": f"reid-core {__version__}",
            "runtime": f"PyTorch {torch.__version__}, Python {platform.python_version()}",
            "finished": time.strftime("%Y-%m-%d %H:%M"),
        },
        rows=[
            result_row(item.result.protocol.name, "evaluated", figures, item.variant)
            for item, figures in summaries.items()
        ],
        curves=cmc_curves(whole, "evaluated"),
        distributions=ap_distributions(whole, "evaluated"),
        ranked=ranked,
        command=command,
        definitions={result.protocol.name: result.protocol.definition for result in plain},
        citations=protocol_citations(whole),
    )


def _ranked_lists(
    files: FeatureFiles, evaluated: Sequence[Evaluated], arguments: FeatureArguments
) -> tuple[list[RankedList], str]:
    """Return the lists to show, or why there are none."""
    if not arguments.queries:
        return [], ""
    if arguments.metric == "euclidean":
        return [], "they are not made for Euclidean distances"
    if any("path" not in table.columns for table in files.tables):
        return [], "the files name no images (array or column path)"
    lists: list[RankedList] = []
    for item in evaluated:
        if item.variant:
            continue
        # Labels make samples on demand, as lists of samples do not.
        samples = cast("Mapping[str, Sequence[Sample]]", item.chosen.labels)
        own = Evaluation(samples=samples, features=item.features, results=(item.result,))
        lists += ranked_lists(own, queries=arguments.queries, seed=arguments.seed)
    queries = [shown.query.path for shown in lists]
    if queries and not any(path.is_file() for path in queries):
        return [], f"{queries[0]} is no file; name the folder that paths start from with --images"
    return lists, ""
