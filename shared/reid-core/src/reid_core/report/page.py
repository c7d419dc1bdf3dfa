"""The page as a whole, and writing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from reid_core.files import atomic_file, output_error
from reid_core.report.clusters import clusters_section
from reid_core.report.curves import evaluation_section, training_section
from reid_core.report.markup import escape, heading, protocol_anchor
from reid_core.report.ranked import MARK_SYMBOLS, ranked_section
from reid_core.report.records import Citation, Report
from reid_core.report.results import results_section
from reid_core.report.thumbnails import make_thumbnail

__all__ = ["render_report", "write_report"]

# Makes the browser itself refuse every load from outside the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_report(report: Report) -> str:
    """Return the page as one HTML document that refers to no other file.

    The same report and the same images give the same text.
    """
    sections = {
        "results": ("Results", results_section(report.rows, synthetic=report.synthetic)),
        "training": ("Training", training_section(report.metrics, synthetic=report.synthetic)),
        "clusters": ("Clusters", clusters_section(report.metrics, synthetic=report.synthetic)),
        "evaluation": ("Evaluation", evaluation_section(report)),
        "ranked": (
            "Ranked lists",
            # One image is often in many lists.
            ranked_section(report.ranked, cache(make_thumbnail), synthetic=report.synthetic),
        ),
        "run": ("Run", _run_section(report.command, report.config)),
        "protocols": ("Protocols", _protocols_section(report.definitions)),
        "citations": ("Citations", _citations_section(report.citations)),
    }
    shown = {anchor: item for anchor, item in sections.items() if item[1]}
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, (name, _) in shown.items())
    pill = '<span class="pill synthetic">synthetic data</span>' if report.synthetic else ""
    mark = " (synthetic data)" if report.synthetic else ""
    name = f"{report.method} on {report.dataset}"
    style = files("reid_core.report").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(f"{report.title}: {name}{mark}")}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body id="top">
{MARK_SYMBOLS}
<nav aria-label="Sections"><div><a class="home" href="#top">{escape(report.title)}</a>{pill}
<span class="links">{links}</span></div></nav>
<main>
{_header(report, name)}
{chr(10).join(section for _, section in shown.values())}
</main>
<footer>Written by reid-core. This page is one file: it needs no network and no other file.</footer>
</body>
</html>
"""


def write_report(report: Report, path: Path) -> Path:
    """Write the page; an existing file is replaced only once the new one is complete.

    Args:
        report: What to show.
        path: HTML file; missing folders on the way are made.

    Returns:
        ``path``.

    Raises:
        OutputError: The file cannot be written (disk full, no permission, path taken).
    """
    data = render_report(report).encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    with atomic_file(path, needed=len(data)) as file:
        file.write(data)
    return path


def _header(report: Report, name: str) -> str:
    facts = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"
        for label, text in report.facts.items()
    )
    banner = (
        '<p class="banner" role="note"><b>SYNTHETIC DATA</b> '
        "<span>The images were generated: these numbers say nothing about real data.</span></p>"
    )
    return f"""<header>
<p class="eyebrow">{escape(name)}</p>
<h1>{escape(report.title)}</h1>
{f'<p class="subtitle">{escape(report.subtitle)}</p>' if report.subtitle else ""}
{banner if report.synthetic else ""}
{f'<dl class="facts">{facts}</dl>' if facts else ""}
</header>"""


def _run_section(command: str, config: Mapping[str, Any]) -> str:
    parts = []
    if command:
        parts.append(f'<h3>Reproduce</h3><pre class="command"><code>{escape(command)}</code></pre>')
    if config:
        rows = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in _flatten(config)
        )
        parts.append(
            "<details><summary>Configuration <span>every setting of the run</span></summary>"
            f'<dl class="config">{rows}</dl></details>'
        )
    if not parts:
        return ""
    head = heading("Run", "run", synthetic=False)
    return f'<section aria-labelledby="run">{head}{"".join(parts)}</section>'


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _protocols_section(definitions: Mapping[str, str]) -> str:
    if not definitions:
        return ""
    rows = "".join(
        f'<div id="{protocol_anchor(name)}"><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>'
        for name, text in definitions.items()
    )
    head = heading("Protocols", "protocols", synthetic=False)
    return (
        f'<section aria-labelledby="protocols">{head}<dl class="definitions">{rows}</dl></section>'
    )


def _citations_section(citations: Sequence[Citation]) -> str:
    if not citations:
        return ""
    items = []
    for citation in citations:
        link = ""
        if citation.url.startswith(("https://", "http://")):
            url = escape(citation.url)
            link = f' <a href="{url}" rel="noreferrer">{url}</a>'
        items.append(f"<li>{escape(citation.text)}{link}</li>")
    head = heading("Citations", "citations", synthetic=False)
    return f'<section aria-labelledby="citations">{head}<ul>{"".join(items)}</ul></section>'
