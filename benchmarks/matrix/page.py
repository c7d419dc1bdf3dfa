"""The results as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from matrix.bars import Bar, bar_chart
from matrix.summary import ResultLine
from matrix.tables import NOTE, costs, figure_title, show_difference, show_published
from reid_core.rounding import one_decimal

__all__ = ["render_page"]

# Makes the browser itself refuse every load from outside the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_BANNER = (
    '<p class="banner" role="note"><b>SYNTHETIC DATA</b> '
    "<span>The images were generated: these figures say nothing about real data, and must not be "
    "compared with published ones.</span></p>"
)
_PILL = ' <span class="pill synthetic">synthetic data</span>'


def render_page(lines: Sequence[ResultLine], *, synthetic: bool) -> str:
    """Return the page; the same lines give the same text.

    Args:
        lines: All real lines, or all synthetic ones.
        synthetic: Which of them.
    """
    title = f"Benchmark results{' on SYNTHETIC data' if synthetic else ''}"
    pill = _PILL if synthetic else ""
    sections, links = [], []
    for name, members in groupby(lines, key=lambda line: line.dataset.name):
        group = list(members)
        shown = escape(group[0].dataset.title)
        links.append(f'<a href="#{name}">{shown}</a>')
        sections.append(
            f'<section aria-labelledby="{name}"><h2 id="{name}">{shown}{pill}</h2>'
            f"{_charts(group)}{_results(group)}{_costs(group)}</section>"
        )
    style = files("reid_core").joinpath("report/report.css").read_text(encoding="utf-8")
    style += (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    body = "\n".join(sections) or "<p>There are no results yet.</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body id="top">
<nav aria-label="Data sets"><div><a class="home" href="#top">{title}</a>{pill}
<span class="links">{"".join(links)}</span></div></nav>
<main>
<header>
<p class="eyebrow">Every method, measured the same way</p>
<h1>{title}</h1>
{_BANNER if synthetic else ""}
<p class="intro">{_marked(NOTE[synthetic])}</p>
{_keys(synthetic)}
</header>
{body}
</main>
<footer>Made from the ledger. This page is one file: it needs no network and no other file.</footer>
</body>
</html>
"""


def _keys(synthetic: bool) -> str:
    keys = ['<i class="bar-key"></i>mean of the runs', '<i class="whisker-key"></i>+- one std']
    if not synthetic:
        keys.append('<i class="published"></i>published')
    items = "".join(f'<span class="key">{key}</span>' for key in keys)
    return f'<div class="keys">{items}</div>'


def _charts(lines: Sequence[ResultLine]) -> str:
    """Draw rank-1 and mAP of every protocol, one bar per row."""
    several = len({line.preset for line in lines}) > 1
    figures = []
    for protocol in lines[0].dataset.protocols:
        members = [line for line in lines if line.protocol == protocol]
        for name in ("rank1", "mAP"):
            bars = [
                Bar(
                    f"{line.row.name} {line.preset}" if several else line.row.name,
                    line.figures[name],
                )
                for line in members
            ]
            kind = f"{members[0].kind} data, " if members[0].synthetic else ""
            caption = f"{protocol}, {figure_title(name)}"
            chart = bar_chart(bars, title=f"{kind}{caption}, percent")
            figures.append(
                f"<figure><figcaption>{escape(caption)}<span>{kind}percent</span></figcaption>"
                f"{chart}</figure>"
            )
    return f'<div class="charts wide">{"".join(figures)}</div>'


def _results(lines: Sequence[ResultLine]) -> str:
    head = ("data", "method", "preset", "protocol", "runs")
    figures = [name for title in ("rank-1", "mAP") for name in (title, "published", "difference")]
    rows = []
    for line in lines:
        cells = [_kind(line), *map(escape, (line.row.name, line.preset, line.protocol))]
        cells.append(f'<span title="{escape(_seeds(line))}">{len(line.records)}</span>')
        for name in ("rank1", "mAP"):
            figure = line.figures[name]
            ours = "-" if figure.last is None else str(figure.last).replace("+-", "&#177;")
            cells += [f"<b>{ours}</b>", escape(show_published(figure)), show_difference(figure)]
        best = [line.figures[name].best for name in ("rank1", "mAP")]
        cells.append(" / ".join("-" if item is None else one_decimal(item.mean) for item in best))
        rows.append(cells)
    columns = [*head, *figures, "best on TEST"]
    return _table(columns, rows, text={0, 1, 2, 3}, quiet={6, 9, 11}, notes=_notes(lines))


def _notes(lines: Sequence[ResultLine]) -> list[str]:
    """Return where published figures are from, and what to keep in mind."""
    sources: dict[tuple[str, str], list[str]] = {}
    remarks = []
    for line in lines:
        if line.source:
            protocols = sources.setdefault((line.row.name, line.source), [])
            protocols += [] if line.protocol in protocols else [line.protocol]
        remarks += [f"{line.row.name}, {line.preset}: {note}." for note in line.notes]
    published = [
        f"{name}, {' and '.join(protocols)}: published in {source}."
        for (name, source), protocols in sources.items()
    ]
    return [*published, *dict.fromkeys(remarks)]


def _costs(lines: Sequence[ResultLine]) -> str:
    columns = ["data", "method", "preset", "runs", "time of a run", "peak memory", "speed"]
    columns.append("hardware")
    rows = []
    for (name, preset), group in groupby(lines, key=lambda line: (line.row.name, line.preset)):
        line = next(group)
        cost = costs(line)
        cells = [escape(name), escape(preset), str(cost.runs), cost.wall, cost.memory, cost.speed]
        rows.append([_kind(line), *cells, escape(cost.hardware)])
    return _table(columns, rows, text={0, 1, 2, 7}, quiet={7})


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: set[int],
    quiet: set[int],
    notes: Sequence[str] = (),
) -> str:
    def style(index: int) -> str:
        names = ["text"] if index in text else []
        names += ["quiet"] if index in quiet else []
        names += ["wide"] if columns[index] in ("preset", "hardware") else []
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f"<th{style(index)}>{name}</th>" for index, name in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(f"<td{style(index)}>{cell or '-'}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    below = "<br>".join(map(escape, notes))
    below = f'<p class="note">{below}</p>' if notes else ""
    return (
        f'<div class="scroll panel"><table class="matrix"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _kind(line: ResultLine) -> str:
    return f'<span class="pill synthetic">{line.kind}</span>' if line.synthetic else line.kind


def _seeds(line: ResultLine) -> str:
    runs = [
        f"seed {record['seed']}" + ("" if record["trial"] is None else f" trial {record['trial']}")
        for record in line.records
    ]
    return ", ".join(runs)


def _marked(text: str) -> str:
    """Escape a text and set what stands between back quotes as code."""
    parts = escape(text).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )
