"""Line charts and histograms as inline SVG.

Drawn by hand, not by a plotting library: colours come from the page's style sheet, so that one
picture suits light, dark and print, text stays text, and the same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from reid_core import rounding
from reid_core.report.markup import escape

__all__ = ["Series", "histogram", "line_chart", "nice_ticks"]

_CHARACTER_WIDTH = 6.5  # of a tick label, in pixels, generously
_MAX_HOVER_POINTS = 150  # per line; a longer one shows every second, third, ... point


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: Shown when the pointer rests on a point.
        style: CSS class that gives colour and dash.
        points: (x, y) pairs in order of x; pairs with a non-finite number are left out.
        markers: Draw a diamond at each point in place of a line.
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    markers: bool = False

    def finite(self) -> list[tuple[float, float]]:
        """Return the points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class _Axes:
    """The plotting area in pixels, the data range that it covers, and its ticks."""

    size: tuple[int, int]
    left: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    percent: bool
    top: float = 8
    right: float = 10
    bottom: float = 34

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.size[0] - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        area = self.size[1] - self.top - self.bottom
        return self.size[1] - self.bottom - (value - low) / (high - low) * area

    def text(self, value: float) -> str:
        """Format a y value for a tooltip."""
        return f"{rounding.percent(value)} %" if self.percent else f"{value:.4g}"


def nice_ticks(low: float, high: float, count: int, *, integer: bool = False) -> list[float]:
    """Return evenly spaced round numbers that cover ``low``..``high``.

    Args:
        low: Smallest value.
        high: Largest value; where it is not above ``low`` the range is widened.
        count: Largest number of whole intervals within the range, at least 1.
        integer: Only whole numbers.

    Returns:
        Ticks; the first is <= ``low`` and the last >= ``high``.
    """
    if high <= low:
        high = low + (1.0 if integer else abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    factors = (1, 2, 5, 10) if integer else (1, 2, 2.5, 5, 10)
    step = next(m * power for m in factors if m * power >= rough * (1 - 1e-9))
    if integer:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") + 0.0 for index in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    percent: bool = False,
    x_ticks: Sequence[float] | None = None,
    size: tuple[int, int] = (360, 220),
) -> str:
    """Draw lines over whole-numbered x; y starts at 0, or below where values are negative.

    Args:
        series: The lines; together they have at least one point that can be drawn.
        label: Said in place of the picture to those who cannot see it.
        x_label: Title of the x axis.
        percent: Show y times 100.
        x_ticks: Ticks of the x axis (those outside the data are left out); chosen where None.
        size: Width and height in pixels.

    Returns:
        An ``<svg>`` element.
    """
    points = [point for line in series for point in line.finite()]
    xs, ys = zip(*points, strict=True)
    x_low, x_high = min(xs), max(xs)
    if x_ticks is None:
        x_ticks = nice_ticks(x_low, x_high, 6, integer=True)
    x_range = (x_low, x_high) if x_high > x_low else (x_low - 1, x_low + 1)
    y_ticks = nice_ticks(min(0.0, *ys), max(0.0, *ys), 4)
    axes = _axes(size, x_range, y_ticks, percent)
    inside = [(axes.x(tick), f"{tick:g}") for tick in x_ticks if x_low <= tick <= x_high]
    parts = [_grid(axes, inside, y_ticks, x_label)]
    for line in series:
        parts.append(_diamonds(axes, line) if line.markers else _line(axes, line))
    parts += [_hover(axes, line, x_label) for line in series]
    return _svg(size, label, parts)


def histogram(
    series: Sequence[tuple[str, str, npt.NDArray[np.floating]]],
    *,
    label: str,
    x_label: str,
    num_bins: int = 10,
    size: tuple[int, int] = (360, 220),
) -> str:
    """Draw shares of values in equal bins of [0, 1]: the last series filled, the others outlined.

    Args:
        series: Name, CSS class and (Q,) values in [0, 1] of each; none is empty.
        label: Said in place of the picture to those who cannot see it.
        x_label: Title of the x axis, which is in percent like the y axis.
        num_bins: Number of bins.
        size: Width and height in pixels.

    Returns:
        An ``<svg>`` element.
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for _, _, values in series]
    y_ticks = nice_ticks(0.0, max(float(share.max()) for share in shares), 4)
    axes = _axes(size, (0.0, 1.0), y_ticks, percent=True)
    x_ticks = [(axes.x(tick), f"{100 * tick:.0f}") for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    parts = [_grid(axes, x_ticks, y_ticks, x_label)]
    bins = list(pairwise(edges.tolist()))
    name, style, _ = series[-1]
    parts.append(_bars(axes, bins, shares[-1].tolist(), name, style))
    for (_, style, _), share in zip(series[:-1], shares, strict=False):
        parts.append(_outline(axes, bins, share.tolist(), style))
    return _svg(size, label, parts)


def _axes(
    size: tuple[int, int], x_range: tuple[float, float], y_ticks: Sequence[float], percent: bool
) -> _Axes:
    widest = max(len(_tick_text(tick, percent)) for tick in y_ticks)
    y_range = (y_ticks[0], y_ticks[-1])
    return _Axes(size, 10 + widest * _CHARACTER_WIDTH, x_range, y_range, percent)


def _tick_text(value: float, percent: bool) -> str:
    return f"{100 * value:.4g}%" if percent else f"{value:.4g}"


def _svg(size: tuple[int, int], label: str, parts: Sequence[str]) -> str:
    start = f'<svg class="chart" viewBox="0 0 {size[0]} {size[1]}" role="img"'
    return f'{start} aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _grid(
    axes: _Axes, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[float], x_label: str
) -> str:
    width, height = axes.size
    floor = height - axes.bottom
    parts = []
    for tick in y_ticks:
        y = axes.y(tick)
        style = "base" if tick == 0 else "grid"
        parts.append(
            f'<line class="{style}" x1="{axes.left:.1f}" x2="{width - axes.right:.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{axes.left - 6:.1f}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{_tick_text(tick, axes.percent)}</text>"
        )
    parts += [
        f'<text class="tick" x="{x:.1f}" y="{floor + 15:.1f}" text-anchor="middle">{text}</text>'
        for x, text in x_ticks
    ]
    parts.append(
        f'<text class="axis" x="{(axes.left + width - axes.right) / 2:.1f}" y="{height - 4}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _line(axes: _Axes, line: Series) -> str:
    points = [(axes.x(x), axes.y(y)) for x, y in line.finite()]
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="line {line.style}" points="{path}"/>'


def _bars(
    axes: _Axes, bins: Sequence[tuple[float, float]], shares: Sequence[float], name: str, style: str
) -> str:
    parts = []
    for (low, high), share in zip(bins, shares, strict=True):
        x, top = axes.x(low) + 1, axes.y(share)
        tip = (
            f"{name}: {axes.text(share)} of queries between {100 * low:.0f} and {100 * high:.0f} %"
        )
        parts.append(
            f'<rect class="bar {style}" x="{x:.1f}" y="{top:.1f}" '
            f'width="{axes.x(high) - x - 1:.1f}" height="{axes.y(0) - top:.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
    return "".join(parts)


def _outline(
    axes: _Axes, bins: Sequence[tuple[float, float]], shares: Sequence[float], style: str
) -> str:
    path, before = "", 0.0
    for (low, high), share in zip(bins, shares, strict=True):
        if share != before:
            path += f"M{axes.x(low):.1f} {axes.y(before):.1f}V{axes.y(share):.1f}"
        if share > 0:
            path += f"M{axes.x(low):.1f} {axes.y(share):.1f}H{axes.x(high):.1f}"
        before = share
    if before > 0:
        path += f"M{axes.x(bins[-1][1]):.1f} {axes.y(before):.1f}V{axes.y(0):.1f}"
    return f'<path class="line {style}" d="{path}"/>'


def _diamonds(axes: _Axes, line: Series) -> str:
    centres = [(axes.x(x), axes.y(y)) for x, y in line.finite()]
    return "".join(
        f'<path class="dot {line.style}" d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z"/>'
        for x, y in centres
    )


def _hover(axes: _Axes, line: Series, x_label: str) -> str:
    points = line.finite()
    stride = math.ceil(len(points) / _MAX_HOVER_POINTS) or 1
    return "".join(
        f'<circle class="hover {line.style}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="6">'
        f"<title>{escape(f'{line.name}, {x_label} {x:g}: {axes.text(y)}')}</title></circle>"
        for x, y in points[::stride]
    )
