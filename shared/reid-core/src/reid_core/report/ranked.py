"""Ranked lists: a query and what the network holds for most alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core.data.sample import Sample
from reid_core.report.markup import escape, group_by, heading, percent, protocol_anchor
from reid_core.report.records import MatchStatus, QueryReason, RankedEntry, RankedList
from reid_core.report.thumbnails import Thumbnail

__all__ = ["MARK_SYMBOLS", "ranked_section"]

MARK_SYMBOLS = (
    '<svg class="symbols" aria-hidden="true">'
    '<symbol id="mark-right" viewBox="0 0 12 12"><path d="M2 6.5 5 9.5 10 3"/></symbol>'
    '<symbol id="mark-wrong" viewBox="0 0 12 12"><path d="M2.5 2.5l7 7m0-7l-7 7"/></symbol>'
    '<symbol id="mark-junk" viewBox="0 0 12 12"><path d="M2.5 6h7"/></symbol></svg>'
)
"""Shapes that the marks refer to; stands once on the page."""

_REASONS: dict[QueryReason, tuple[str, str]] = {
    "hardest": ("Hardest queries", "lowest average precision first"),
    "random": ("Random queries", "drawn by chance"),
}

Thumbnails = Callable[[Path], Thumbnail | None]


def ranked_section(ranked: Sequence[RankedList], thumbnails: Thumbnails, *, synthetic: bool) -> str:
    """Return the ranked lists by protocol and reason; empty text where there are none."""
    if not ranked:
        return ""
    parts = []
    for protocol, lists in group_by(ranked, lambda item: item.protocol).items():
        name = f'<a href="#{protocol_anchor(protocol)}">{escape(protocol)}</a>'
        parts.append(f"<h3>{name}</h3>")
        groups = group_by(lists, lambda item: item.reason)
        for reason, group in groups.items():
            title, order = _REASONS[reason]
            rows = "".join(_ranked_list(item, thumbnails) for item in group)
            state = " open" if reason == next(iter(groups)) else ""
            parts.append(
                f"<details{state}><summary>{title} <span>{len(group)}, {order}</span></summary>"
                f"{rows}</details>"
            )
    return f"""<section aria-labelledby="ranked">
{heading("Ranked lists", "ranked", synthetic=synthetic)}
{_legend(any(map(_has_infrared, ranked)))}
{"".join(parts)}
</section>"""


def _legend(by_modality: bool) -> str:
    labels = "similarity, identity, camera (counted from 0), clothes" + (
        ", modality" if by_modality else ""
    )
    return (
        '<p class="keys marks"><span class="key"><i class="swatch query"></i>query</span>'
        f'<span class="key">{_mark("right")}right: the same person</span>'
        f'<span class="key">{_mark("wrong")}wrong: somebody else</span>'
        f'<span class="key">{_mark("junk")}junk: left out by the protocol, takes no rank</span>'
        f"<span>Below each image: {labels}.</span></p>"
    )


def _mark(status: MatchStatus) -> str:
    shape = f'<svg aria-hidden="true"><use href="#mark-{status}"/></svg>'
    return f'<span class="mark {status}">{shape}</span>'


def _ranked_list(item: RankedList, thumbnails: Thumbnails) -> str:
    facts = [f"AP {percent(item.average_precision)} %"]
    if item.first_hit_rank is not None:
        facts.append(f"first right match at rank {item.first_hit_rank:,}")
    # Said of every image where it tells some apart, and of none where all are visible ones.
    by_modality = _has_infrared(item)
    tiles, rank = [], 0
    for entry in item.entries:
        rank += entry.status != "junk"
        tiles.append(_entry_tile(entry, rank, by_modality, thumbnails))
    query = _tile(item.query, "query", "query", "Query", "", by_modality, thumbnails)
    return (
        f"<article><h4>{escape(_labels_text(item.query, by_modality).capitalize())} "
        f"<span>{', '.join(facts)}</span></h4>"
        f'<div class="ranking">{query}<ol>{"".join(tiles)}</ol></div></article>'
    )


def _entry_tile(entry: RankedEntry, rank: int, by_modality: bool, thumbnails: Thumbnails) -> str:
    name = "junk" if entry.status == "junk" else str(rank)
    spoken = "Junk" if entry.status == "junk" else f"Rank {rank}, {entry.status}"
    score = f"{round(entry.score, 3) + 0.0:.3f}"  # never -0.000
    tag = f"{name}{_mark(entry.status)}"
    spoken = f"{spoken}, score {score}"
    score = f"<b>{score}</b>"
    tile = _tile(entry.sample, entry.status, tag, spoken, score, by_modality, thumbnails)
    return f"<li>{tile}</li>"


def _tile(
    sample: Sample,
    style: str,
    tag: str,
    spoken: str,
    score: str,
    by_modality: bool,
    thumbnails: Thumbnails,
) -> str:
    thumbnail = thumbnails(sample.path)
    text = escape(f"{spoken}: {_labels_text(sample, by_modality)}")
    title = f"{text}&#10;{escape(sample.path.name)}"
    if thumbnail is None:
        picture = (
            f'<div class="missing" role="img" aria-label="{text}, image not readable">'
            "image not readable</div>"
        )
    else:
        picture = (
            f'<img src="{thumbnail.uri}" width="{thumbnail.width}" height="{thumbnail.height}" '
            f'alt="{text}" decoding="async">'
        )
    labels = "".join(f"<span>{escape(label)}</span>" for label in _labels(sample))
    if by_modality:
        labels += f'<span class="modality {sample.modality}">{sample.modality}</span>'
    return (
        f'<figure class="tile {style}" title="{title}">'
        f'<div class="tag" aria-hidden="true">{tag}</div>{picture}'
        f'<figcaption aria-hidden="true">{score}{labels}</figcaption></figure>'
    )


def _has_infrared(item: RankedList) -> bool:
    samples = (item.query, *(entry.sample for entry in item.entries))
    return any(sample.modality == "infrared" for sample in samples)


def _labels(sample: Sample) -> list[str]:
    labels = [f"id {sample.pid}", f"cam {sample.camid}"]
    if sample.clothes_id >= 0:
        labels.append(f"clothes {sample.clothes_id}")
    return labels


def _labels_text(sample: Sample, by_modality: bool) -> str:
    words = [f"identity {sample.pid}", f"camera {sample.camid}"]
    if sample.clothes_id >= 0:
        words.append(f"clothes {sample.clothes_id}")
    if by_modality:
        words.append(sample.modality)
    return ", ".join(words)
