"""Bars with their spread against the published value, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matrix.summary import Figure
from reid_core.rounding import one_decimal

__all__ = ["Bar", "bar_chart"]

_LABEL_WIDTH = 150
_VALUE_WIDTH = 92
_WIDTH = 560
_ROW = 30
_TOP = 6
_BOTTOM = 24
_LETTERS = 24  # of a label; a longer one ends in dots, its whole text is in the tooltip


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: Method, and its preset where there are several.
        figure: What is shown.
    """

    label: str
    figure: Figure


def bar_chart(bars: Sequence[Bar], *, title: str) -> str:
    """Draw bars over 0..100 percent; the style sheet of the page gives the colours.

    Args:
        bars: The bars, the first at the top.
        title: Said in place of the picture to those who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    height = _TOP + _ROW * len(bars) + _BOTTOM
    parts = [_grid(height)]
    parts += [_bar(bar, _TOP + _ROW * index) for index, bar in enumerate(bars)]
    return (
        f'<svg class="chart bars" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _grid(height: int) -> str:
    bottom = height - _BOTTOM
    lines = []
    for tick in range(0, 101, 20):
        x = _x(tick)
        style = "base" if tick == 0 else "grid"
        lines.append(f'<line class="{style}" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>')
        lines.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{tick}</text>')
    return "".join(lines)


def _bar(bar: Bar, top: int) -> str:
    figure, middle = bar.figure, top + _ROW / 2
    short = bar.label if len(bar.label) <= _LETTERS else f"{bar.label[: _LETTERS - 3]}..."
    parts = [f"<title>{escape(_describe(bar))}</title>"]
    parts.append(
        f'<text class="name" x="{_LABEL_WIDTH - 8}" y="{middle + 4}" text-anchor="end">'
        f"{escape(short)}</text>"
    )
    shown = "-"
    if figure.last is not None:
        mean, shown = figure.last.mean, str(figure.last).replace("+-", "&#177;")
        width = round(_x(mean) - _x(0), 1)
        parts.append(
            f'<rect class="bar trained" x="{_x(0)}" y="{top + 6}" width="{width}" '
            f'height="{_ROW - 12}" rx="2"/>'
        )
        if figure.last.std is not None:
            parts.append(_whisker(mean, figure.last.std, middle))
    if figure.published is not None and figure.difference is not None:
        x = _x(figure.published)
        parts.append(f'<path class="dot published" d="M{x} {middle - 7}l7 7-7 7-7-7z"/>')
    x = _WIDTH - _VALUE_WIDTH + 12
    parts.append(f'<text class="value" x="{x}" y="{middle + 4}">{shown}</text>')
    return f"<g>{''.join(parts)}</g>"


def _whisker(mean: float, std: float, middle: float) -> str:
    low, high = _x(max(0.0, mean - std)), _x(min(100.0, mean + std))
    path = f"M{low} {middle}H{high}M{low} {middle - 5}v10M{high} {middle - 5}v10"
    return f'<path class="whisker" d="{path}"/>'


def _describe(bar: Bar) -> str:
    figure = bar.figure
    text = f"{bar.label}: {'no result' if figure.last is None else figure.last}"
    if figure.difference is None or figure.published is None:
        return text
    published, difference = (
        one_decimal(figure.published),
        one_decimal(figure.difference, signed=True),
    )
    return f"{text}; published {published}, difference {difference}"


def _x(percent: float) -> float:
    area = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    return round(_LABEL_WIDTH + percent / 100 * area, 1)
