"""The results: one card per protocol, and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reid_core.report.markup import (
    FIGURE_NAMES,
    deviation,
    escape,
    group_by,
    heading,
    interval,
    notes_of,
    percent,
    protocol_anchor,
    query_counts,
    row_label,
)
from reid_core.report.records import ResultRow

__all__ = ["NOT_COMPARABLE", "results_section"]

NOT_COMPARABLE = "real data, not comparable"
"""Said of published figures that stand beside results on generated images."""

_COLUMNS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "Chance rank-1", "Queries")


def results_section(rows: Sequence[ResultRow], *, synthetic: bool) -> str:
    """Return the section with cards and table; empty text where there are no rows."""
    if not rows:
        return ""
    groups = group_by(rows, lambda row: row.protocol)
    cards = "".join(_card(name, group, synthetic) for name, group in groups.items())
    bodies = "".join(_table_body(name, group, synthetic) for name, group in groups.items())
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    note = "All figures in percent, except the number of queries (valid / all)."
    if synthetic:
        note += " Generated images: these numbers say nothing about real data."
    if any(row.deviations for row in rows):
        note += " &plusmn;: standard deviation over the trials."
    note += "".join(f"<br>{escape(text)}" for text in notes_of(rows))
    return f"""<section aria-labelledby="results">
{heading("Results", "results", synthetic=synthetic)}
<div class="cards">{cards}</div>
<p class="keys" aria-hidden="true">{_strip_legend(rows, synthetic)}</p>
<div class="panel"><div class="scroll" role="region" aria-label="Results table" tabindex="0">
<table aria-describedby="results-note">
<thead><tr><th scope="col">Stage</th>{head}</tr></thead>
{bodies}
</table></div><p class="note" id="results-note">{note}</p></div>
</section>"""


def _card(protocol: str, rows: Sequence[ResultRow], synthetic: bool) -> str:
    own = [row for row in rows if row.stage != "published" and not row.variant]
    if not own:
        return ""
    main, marks = own[-1], _strip_marks(rows, synthetic)
    others = [f"{kind} {percent(value)} %" for kind, value in marks if kind != main.stage]
    others += [f"{_addition(row.variant)} {percent(row.rank1)} %" for row in rows if row.variant]
    name = f'<a href="#{protocol_anchor(protocol)}">{escape(protocol)}</a>'
    return f"""<div class="card"><h3>{name}</h3>
<p class="big"><b>{percent(main.rank1)}<small> %</small></b> rank-1, {main.stage}</p>
<p class="big second"><b>{percent(main.mean_ap)}<small> %</small></b> mAP</p>
{_strip(protocol, marks)}
<p class="muted">{"; ".join(others)}</p></div>"""


def _addition(variant: str) -> str:
    """Return a variant in the words of a card; a group of parts is not added to anything."""
    return variant if variant.endswith(" stream") else f"with {variant}"


def _strip_marks(rows: Sequence[ResultRow], synthetic: bool) -> list[tuple[str, float]]:
    """Return kind and rank-1 of the plain rankings; no published one beside generated images."""
    shown = [row for row in rows if not (row.variant or (synthetic and row.stage == "published"))]
    chances = _known([("chance", row.chance_rank1) for row in shown])
    return chances[:1] + _known([(row.stage, row.rank1) for row in shown])


def _known(marks: Sequence[tuple[str, float | None]]) -> list[tuple[str, float]]:
    found = [(kind, value) for kind, value in marks if value is not None]
    return [(kind, value) for kind, value in found if not math.isnan(value)]


def _strip(protocol: str, marks: Sequence[tuple[str, float]]) -> str:
    words = ", ".join(f"{kind} {percent(value)} %" for kind, value in marks)
    label = escape(f"{protocol}, rank-1 on a scale from 0 to 100 %: {words}")
    drawn = "".join(
        f'<i class="{kind}" style="left:{100 * value:.1f}%"></i>' for kind, value in marks
    )
    return f'<div class="strip" role="img" aria-label="{label}">{drawn}</div>'


def _strip_legend(rows: Sequence[ResultRow], synthetic: bool) -> str:
    kinds = dict.fromkeys(kind for kind, _ in _strip_marks(rows, synthetic))
    keys = "".join(f'<span class="key"><i class="{kind}"></i>{kind}</span>' for kind in kinds)
    return f"Rank-1 on a scale from 0 to 100 %: {keys}"


def _table_body(protocol: str, rows: Sequence[ResultRow], synthetic: bool) -> str:
    name = f'<a href="#{protocol_anchor(protocol)}">{escape(protocol)}</a>'
    span = len(_COLUMNS) + 1
    title = f'<tr class="group"><th scope="rowgroup" colspan="{span}">{name}</th></tr>'
    return f"<tbody>{title}{''.join(_table_row(row, synthetic) for row in rows)}</tbody>"


def _table_row(row: ResultRow, synthetic: bool) -> str:
    source = escape(row.source)
    if row.stage == "published":
        source = f"published figures: {source}" if source else "published figures"
        if synthetic:
            source += f"; <em>{NOT_COMPARABLE}</em>"
    if row.deviations:
        source = "; ".join(filter(None, [source, f"mean of {row.num_trials} trials"]))
    if row.intervals:
        source = "; ".join(filter(None, [source, escape(row.interval_label)]))
    source = f"<small>{source}</small>" if source else ""
    scores = (row.rank1, row.rank5, row.rank10, row.mean_ap, row.mean_inp)
    cells = "".join(
        f"<td>{percent(score)}{_spread(row, name)}{_small(interval(row, name))}</td>"
        for score, name in zip(scores, FIGURE_NAMES, strict=True)
    )
    cells += f"<td>{percent(row.chance_rank1)}</td>"
    label = f'<i class="{row.stage}"></i>{escape(row_label(row))}'
    return (
        f'<tr class="{row.stage}"><th scope="row"><span class="key">{label}</span>{source}</th>'
        f"{cells}<td>{query_counts(row)}</td></tr>"
    )


def _spread(row: ResultRow, name: str) -> str:
    text = deviation(row, name)
    return _small(f"&plusmn;{text}") if text else ""


def _small(text: str) -> str:
    return f"<small>{text}</small>" if text else ""
