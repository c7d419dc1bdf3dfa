"""How pseudo labels became better: clusters of the training images, cycle by cycle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reid_core.report.charts import Series, line_chart
from reid_core.report.curves import figure
from reid_core.report.markup import heading, percent

__all__ = ["clusters_section"]

# Figure of a record to the CSS class of its line and its name.
_QUALITY = {
    "purity": ("trained", "purity"),
    "ari": ("mean-ap", "ARI"),
    "cross_camera_recall": ("published", "cross-camera pairs found"),
}
_COUNTS = {
    "num_clusters": ("trained", "clusters"),
    "num_singletons": ("untrained", "of one image"),
}
_TITLES = {"intra": "Each camera by itself", "inter": "All cameras together"}


def clusters_section(metrics: Sequence[Mapping[str, Any]], *, synthetic: bool) -> str:
    """Return the quality and number of clusters by cycle; empty text where nothing was clustered.

    Args:
        metrics: Records of ``metrics.jsonl``. Those of kind ``clusters`` have a ``cycle``, from 0,
            and the figures under ``intra`` (cameras were clustered by themselves) or ``inter``.
        synthetic: Whether the images were generated.
    """
    records = [record for record in metrics if record.get("kind") == "clusters"]
    blocks = []
    for stage, title in _TITLES.items():
        found = {
            record["cycle"] + 1: record[stage]
            for record in records
            if isinstance(record.get(stage), Mapping) and isinstance(record.get("cycle"), int)
        }
        figures = [
            _chart(title, "Agreement with the true identities", _QUALITY, found, in_percent=True),
            _chart(title, "Number of clusters", _COUNTS, found, in_percent=False),
        ]
        if any(figures):
            blocks.append(f'<h3>{title}</h3><div class="charts">{"".join(figures)}</div>')
    if not blocks:
        return ""
    return f"""<section aria-labelledby="clusters">
{heading("Clusters", "clusters", synthetic=synthetic)}
<p class="muted">Pseudo labels of the training images. Identities, where they are known, were only
looked at for these curves, never for training.</p>
{"".join(blocks)}
</section>"""


def _chart(
    title: str,
    caption: str,
    names: Mapping[str, tuple[str, str]],
    found: Mapping[int, Mapping[str, Any]],
    *,
    in_percent: bool,
) -> str:
    lines, words = [], []
    for key, (style, name) in names.items():
        values = {cycle: figures.get(key) for cycle, figures in sorted(found.items())}
        points = [
            (float(cycle), float(value))
            for cycle, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        if points:
            lines.append(Series(name, style, points))
            last = points[-1][1]
            shown = f"{percent(last)} %" if in_percent else f"{last:g}"
            words.append(f"{name} {shown} in cycle {points[-1][0]:g}")
    if not lines:
        return ""
    label = f"{title}, {caption.lower()}: {', '.join(words)}"
    chart = line_chart(lines, label=label, x_label="cycle", percent=in_percent)
    return figure(caption, lines, chart)
