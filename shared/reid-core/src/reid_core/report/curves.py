"""Curves: what was logged while training, and how each protocol's ranking turned out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from reid_core.report.charts import Series, histogram, line_chart
from reid_core.report.markup import escape, group_by, heading, percent, protocol_anchor
from reid_core.report.records import APDistribution, CmcCurve, Report, ResultRow

__all__ = ["evaluation_section", "figure", "training_section"]

_NOT_SERIES = frozenset({"kind", "epoch", "step"})
_CMC_TICKS = (1, 5, 10, 15, 20, 30, 40, 50)
_MAX_CMC_RANK = 50


def training_section(metrics: Sequence[Mapping[str, Any]], *, synthetic: bool) -> str:
    """Return one small chart per number logged while training; empty text where there is none."""
    charts = group_by(_training_series(metrics).items(), lambda item: _training_group(item[0]))
    if not charts:
        return ""
    parts = []
    for title in ("Loss terms", "Batch accuracies", "Learning rate and others"):
        figures = [_small_chart(name, points) for name, points in charts.get(title, ())]
        if figures:
            parts.append(f'<h3>{title}</h3><div class="small-charts">{"".join(figures)}</div>')
    return f"""<section aria-labelledby="training">
{heading("Training", "training", synthetic=synthetic)}
<p class="muted">Means over each epoch, as logged; the figure at the right is the last one.</p>
{"".join(parts)}
</section>"""


def evaluation_section(report: Report) -> str:
    """Return, per protocol, scores by epoch, CMC curve and AP distribution, where there are any."""
    epochs = _evaluation_series(report.metrics)
    curves = group_by(report.curves, lambda curve: curve.protocol)
    spreads = group_by(report.distributions, lambda spread: spread.protocol)
    rows = group_by(report.rows, lambda row: row.protocol)
    blocks = []
    for protocol in dict.fromkeys([*rows, *epochs, *curves, *spreads]):
        of_protocol = rows.get(protocol, [])
        figures = [
            _epoch_chart(protocol, epochs.get(protocol, {}), of_protocol, report.synthetic),
            _cmc_chart(protocol, curves.get(protocol, []), of_protocol, report.synthetic),
            _ap_chart(protocol, spreads.get(protocol, [])),
        ]
        if any(figures):
            name = f'<a href="#{protocol_anchor(protocol)}">{escape(protocol)}</a>'
            blocks.append(f'<h3>{name}</h3><div class="charts">{"".join(figures)}</div>')
    if not blocks:
        return ""
    return f"""<section aria-labelledby="evaluation">
{heading("Evaluation", "evaluation", synthetic=report.synthetic)}
{"".join(blocks)}
</section>"""


def _training_series(metrics: Iterable[Mapping[str, Any]]) -> dict[str, dict[float, float]]:
    """Collect name -> finished epochs -> value."""
    series: dict[str, dict[float, float]] = {}
    for record in metrics:
        epoch = record.get("epoch")
        if record.get("kind") == "train" and _is_number(epoch):
            for name, value in _numbers(record):
                series.setdefault(name, {})[epoch + 1] = value
    return series


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a record; nested names are joined by a slash."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif _is_number(value) and name not in _NOT_SERIES:
            yield f"{prefix}{name}", float(value)


def _evaluation_series(
    metrics: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, dict[float, float]]]:
    """Collect protocol -> score name -> finished epochs -> value."""
    series: dict[str, dict[str, dict[float, float]]] = {}
    for record in metrics:
        epoch, results = record.get("epoch"), record.get("results")
        if record.get("kind") != "eval" or not _is_number(epoch) or not isinstance(results, dict):
            continue
        for protocol, scores in results.items():
            for name in ("rank1", "mAP"):
                if isinstance(scores, dict) and _is_number(scores.get(name)):
                    by_epoch = series.setdefault(protocol, {}).setdefault(name, {})
                    by_epoch[epoch + 1] = scores[name]
    return series


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _training_group(name: str) -> str:
    groups = {"loss": "Loss terms", "acc": "Batch accuracies"}
    return groups.get(re.split("[^a-z]", name)[0], "Learning rate and others")


def _small_chart(name: str, values: Mapping[float, float]) -> str:
    points = sorted(values.items())
    (first_epoch, first), (last_epoch, last) = points[0], points[-1]
    label = f"{name}: {first:.4g} at epoch {first_epoch:g}, {last:.4g} at epoch {last_epoch:g}"
    line = Series(name, "trained", points)
    chart = line_chart([line], label=label, x_label="epoch", size=(280, 160))
    caption = f"<code>{escape(name)}</code><b>{last:.4g}</b>"
    return f"<figure><figcaption>{caption}</figcaption>{chart}</figure>"


def figure(title: str, lines: Sequence[Series], chart: str) -> str:
    """Return a chart with its title and a legend of its lines."""
    legend = "".join(
        f'<span class="key"><i class="{"" if line.markers else "line-key "}{line.style}"></i>'
        f"{escape(line.name)}</span>"
        for line in lines
    )
    return f"<figure><figcaption>{title}<span>{legend}</span></figcaption>{chart}</figure>"


def _epoch_chart(
    protocol: str,
    scores: Mapping[str, Mapping[float, float]],
    rows: Sequence[ResultRow],
    synthetic: bool,
) -> str:
    if not scores:
        return ""
    styles = {"rank1": ("trained", "rank-1"), "mAP": ("mean-ap", "mAP")}
    lines, words = [], []
    for name, (style, title) in styles.items():
        points = sorted(scores.get(name, {}).items())
        if points:
            lines.append(Series(title, style, points))
            words.append(f"{title} {percent(points[-1][1])} % at epoch {points[-1][0]:g}")
    ends = [min(x for line in lines for x, _ in line.points)]
    ends.append(max(x for line in lines for x, _ in line.points))
    levels = [("chance", "chance rank-1", row.chance_rank1) for row in rows]
    if not synthetic:
        published = [row for row in rows if row.stage == "published"]
        levels += [("published", "published rank-1", row.rank1) for row in published]
    lines += [
        Series(name, f"{style} level", [(x, level) for x in ends])
        for style, name, level in dict.fromkeys(levels)
        if level is not None and math.isfinite(level)
    ]
    label = f"{protocol}: {', '.join(words)}"
    chart = line_chart(lines, label=label, x_label="epoch", percent=True)
    return figure("Rank-1 and mAP by epoch", lines, chart)


def _cmc_chart(
    protocol: str, curves: Sequence[CmcCurve], rows: Sequence[ResultRow], synthetic: bool
) -> str:
    curves = [curve for curve in curves if np.isfinite(curve.values[:_MAX_CMC_RANK]).any()]
    if not curves:
        return ""
    lines = [
        Series(
            curve.stage,
            curve.stage,
            [(rank, float(v)) for rank, v in enumerate(curve.values[:_MAX_CMC_RANK].tolist(), 1)],
        )
        for curve in curves
    ]
    words = [f"{line.name} {percent(line.points[0][1])} % at rank 1" for line in lines]
    for row in rows:
        if row.stage == "published" and not synthetic:
            known = zip((1, 5, 10), (row.rank1, row.rank5, row.rank10), strict=True)
            points = [(rank, value) for rank, value in known if value is not None]
            if points:
                lines.append(Series("published", "published", points, markers=True))
    label = f"{protocol}, cumulative matching characteristic: {', '.join(words)}"
    chart = line_chart(lines, label=label, x_label="rank", percent=True, x_ticks=_CMC_TICKS)
    return figure("Right match within k ranks (CMC)", lines, chart)


def _ap_chart(protocol: str, spreads: Sequence[APDistribution]) -> str:
    known = [(spread.stage, spread.values[np.isfinite(spread.values)]) for spread in spreads]
    series = [(stage, stage, values) for stage, values in known if len(values)]
    if not series:
        return ""
    words = [f"{name} mean {percent(float(values.mean()))} %" for name, _, values in series]
    label = f"{protocol}, share of queries by average precision: {', '.join(words)}"
    chart = histogram(series, label=label, x_label="average precision (%)")
    keys = [Series(name, style, ()) for name, style, _ in series]
    return figure("Queries by average precision", keys, chart)
