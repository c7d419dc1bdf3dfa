"""What a training or an evaluation leaves: results.json, report.html and the printed table."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from reid_core import __version__
from reid_core.commands.console import say
from reid_core.commands.query_table import query_table_name, write_query_table
from reid_core.data.fingerprint import fingerprint
from reid_core.data.naming import dataset_title
from reid_core.data.sample import ReIDDataset
from reid_core.evaluation.evaluator import Evaluation
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.evaluation.query_figures import Resample, result_intervals
from reid_core.files import write_json
from reid_core.report import Citation, Report, ResultRow, Stage, print_results, write_report
from reid_core.report.assemble import (
    ap_distributions,
    cmc_curves,
    protocol_citations,
    published_row,
    ranked_lists,
    result_row,
)
from reid_core.report.markup import variant_suffix
from reid_core.rounding import percent

__all__ = [
    "Bootstrap",
    "MethodInfo",
    "Outcome",
    "describe_dataset",
    "describe_device",
    "print_evaluation",
    "publish",
]


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What a report says of a method.

    Attributes:
        name: As in commands, e.g. ``aim``.
        title: As in papers, e.g. ``AIM``.
        version: Version of its package.
        citation: Its publication, for the list of references.
        source: The publication in a few words, beside its figures.
        published: Protocol name to the figures of the paper, as fractions.
        sources: Protocol name to the source of its figures, where it is another.
    """

    name: str
    title: str
    version: str
    citation: str
    source: str
    published: Mapping[str, Mapping[str, float]]
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How confidence intervals are made; see ``result_intervals``.

    Attributes:
        confidence: Level in percent.
        resample: What is drawn.
        resamples: Number of resamples.
        seed: Seed.
    """

    confidence: float
    resample: Resample = "queries"
    resamples: int = 10_000
    seed: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One evaluated network and where it came from.

    Attributes:
        evaluation: Features and results of the final network.
        stage: ``trained`` at the end of a training, ``evaluated`` for given weights.
        dataset: The data set.
        earlier: Protocol name to figures of the untrained network; empty where unknown.
        details: More for results.json: preset, epoch, seed, weights, ...
        facts: Label to text, for the head of the report.
        metrics: Records of metrics.jsonl.
        config: Settings, for the report.
        command: Command line.
        bootstrap: Confidence intervals to add to all figures; None for none.
    """

    evaluation: Evaluation
    stage: Stage
    dataset: ReIDDataset
    earlier: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    bootstrap: Bootstrap | None = None


def publish(
    folder: Path,
    method: MethodInfo,
    outcome: Outcome,
    *,
    queries: int = 8,
    query_tables: bool = False,
) -> list[Path]:
    """Write results.json and report.html into ``folder`` and print the table.

    Args:
        folder: An existing folder.
        method: The method.
        outcome: What to show.
        queries: Ranked lists per protocol.
        query_tables: Also write a CSV table of all queries for every protocol.

    Returns:
        The files written.

    Raises:
        OutputError: When they cannot be written.
    """
    dataset, evaluation = outcome.dataset, outcome.evaluation
    results = _figures(outcome, evaluation.results)
    variants = {name: _figures(outcome, found) for name, found in evaluation.variants.items()}
    record = {
        "method": method.name,
        "versions": {f"reid-{method.name}": method.version, "reid-core": __version__},
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "fingerprint": fingerprint(dataset),
        "notes": list(dataset.notes),
        **outcome.details,
        "command": outcome.command,
        **({} if outcome.bootstrap is None else {"bootstrap": asdict(outcome.bootstrap)}),
        "results": results,
        **({"variants": variants} if variants else {}),
        **({"missing": _missing(evaluation)} if evaluation.missing else {}),
        "untrained": dict(outcome.earlier),
        "published": {name: method.published[name] for name in results if name in method.published},
    }
    path = folder / "results.json"
    write_json(path, record)
    rows = _rows(method, outcome, results, variants)
    report = _report(folder, method, outcome, rows, queries)
    files = [path, write_report(report, folder / "report.html")]
    if query_tables:
        files += _write_query_tables(folder, evaluation)
    if rows:
        print_results(rows, synthetic=dataset.synthetic, title=report.title)
    return files


def print_evaluation(label: str, evaluation: Evaluation) -> None:
    """Print one line per protocol, for the time until the table: rank-1 and mAP in percent."""
    for variant, results in {"": evaluation.results, **evaluation.variants}.items():
        for result in results:
            figures = result.summary()
            name = f"{result.protocol.name}{variant_suffix(variant)}"
            rank1, mean_ap = percent(figures["rank1"]), percent(figures["mAP"])
            chance = percent(figures["chance_rank1"])
            say(f"{label}  {name}  rank-1 {rank1}%  mAP {mean_ap}%  (a random ranking: {chance}%)")


def describe_dataset(dataset: ReIDDataset, *, identities: bool = True) -> str:
    """Describe a data set in a few words: name, whether synthetic, training images and people.

    Args:
        dataset: The data set.
        identities: Whether identities are looked at; otherwise cameras are counted.
    """
    kind = "synthetic " if dataset.synthetic else ""
    text = f"{kind}{dataset_title(dataset.name)}: {len(dataset.train):,} training images"
    if identities:
        return f"{text} of {dataset.num_pids:,} people"
    count = len({sample.camid for sample in dataset.train})
    return f"{text} of {count:,} camera{'' if count == 1 else 's'}"


def describe_device(device: torch.device) -> str:
    """Name a device as people know it: the GPU's name, or the processor's number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = "CPU" if device.type == "cpu" else device.type.upper()
    return f"{kind} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _figures(outcome: Outcome, results: Sequence[ProtocolResult]) -> dict[str, dict[str, Any]]:
    """Return protocol name to figures, with confidence intervals where they are wanted."""
    figures = {result.protocol.name: result.summary() for result in results}
    wanted = outcome.bootstrap
    if wanted is not None:
        for result in results:
            found = result_intervals(result, outcome.evaluation.samples, **asdict(wanted))
            own = figures[result.protocol.name]
            own["confidence"] = wanted.confidence
            own["intervals"] = {name: list(ends) for name, ends in found.items()}
    return figures


def _missing(evaluation: Evaluation) -> dict[str, dict[str, dict[str, int]]]:
    """Return, by kind of companion and split, the images and how many of them have none."""
    return {
        kind: {
            split: {"images": len(evaluation.samples[split]), "missing": count}
            for split, count in counts.items()
        }
        for kind, counts in evaluation.missing.items()
    }


def _write_query_tables(folder: Path, evaluation: Evaluation) -> list[Path]:
    def describe(split: str, row: int) -> tuple[object, ...]:
        sample = evaluation.samples[split][row]
        labels = (sample.pid, sample.camid, sample.clothes_id, sample.modality)
        return (sample.path.as_posix(), *labels)

    files = []
    for variant, results in {"": evaluation.results, **evaluation.variants}.items():
        for result in results:
            files.append(folder / query_table_name(result, variant))
            columns = ("path", "pid", "camid", "clothes_id", "modality")
            write_query_table(files[-1], result, columns, describe)
    return files


def _rows(
    method: MethodInfo,
    outcome: Outcome,
    results: Mapping[str, Mapping[str, Any]],
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> list[ResultRow]:
    rows = []
    for name, figures in results.items():
        if name in outcome.earlier:
            rows.append(result_row(name, "untrained", outcome.earlier[name]))
        rows.append(result_row(name, outcome.stage, figures))
        for variant, found in variants.items():
            rows.append(result_row(name, outcome.stage, found[name], variant))
        if name in method.published:
            source = method.sources.get(name, method.source)
            rows.append(published_row(name, method.published[name], source))
    return rows


def _report(
    folder: Path,
    method: MethodInfo,
    outcome: Outcome,
    rows: Sequence[ResultRow],
    queries: int,
) -> Report:
    dataset, evaluation = outcome.dataset, outcome.evaluation
    kind = "synthetic " if dataset.synthetic else ""
    return Report(
        title=f"{method.title} on {kind}{dataset_title(dataset.name)}",
        subtitle=folder.resolve().name,
        method=method.title,
        dataset=dataset_title(dataset.name),
        synthetic=dataset.synthetic,
        facts={
            **outcome.facts,
            "packages": f"reid-{method.name} {method.version}, reid-core {__version__}",
            "runtime": f"PyTorch {torch.__version__}, Python {platform.python_version()}",
            "finished": time.strftime("%Y-%m-%d %H:%M"),
        },
        rows=rows,
        metrics=outcome.metrics,
        curves=cmc_curves(evaluation, outcome.stage),
        distributions=ap_distributions(evaluation, outcome.stage),
        ranked=ranked_lists(evaluation, queries=queries),
        config=outcome.config,
        command=outcome.command,
        definitions={
            result.protocol.name: result.protocol.definition for result in evaluation.results
        },
        citations=[Citation(text=method.citation), *protocol_citations(evaluation)],
    )
