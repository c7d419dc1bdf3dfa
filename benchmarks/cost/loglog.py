"""Lines on two logarithmic axes, as one self-contained SVG that suits light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "Panel", "draw"]

WIDTH, HEIGHT = 470, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 34, 34, 44
LEGEND_ROW = 20
# Readable on white and on black, told apart without colour vision together with the dashes.
COLOURS = ("#777f88", "#2f6fe0", "#d2691e", "#0a9080", "#b0409a", "#8a8f20", "#cc3344")
DASHES = ("2 3", "", "7 3", "9 3 2 3", "5 5", "1 4", "12 4")
STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #333c44 } .title { font-weight: 600 }"
    " .grid { stroke: #d9dcde } .frame { fill: none; stroke: #8a949c }"
    " .line { fill: none; stroke-width: 2 }"
    " @media (prefers-color-scheme: dark) { text { fill: #c9d1d8 } .grid { stroke: #333b42 } }"
)


@dataclass(frozen=True)
class Line:
    """A line; points with a value that has no logarithm are left out."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def drawable(self) -> list[tuple[float, float]]:
        """The points that can be drawn, in order of x."""
        return sorted((x, y) for x, y in self.points if x > 0 and y > 0)


@dataclass(frozen=True)
class Panel:
    """A chart: its title says what y is."""

    title: str
    x_title: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], *, label: str) -> str:
    """Draw panels side by side under one legend.

    Args:
        panels: The charts. A name has the same colour in all of them.
        label: Said in place of the picture to those who cannot see it.

    Returns:
        An SVG document.
    """
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    per_row = max(1, WIDTH * len(panels) // 190)
    legend_height = LEGEND_ROW * math.ceil(len(names) / per_row) + 12
    width, height = WIDTH * len(panels), HEIGHT + legend_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'width="{width}" height="{height}" aria-label="{escape(label)}"><style>{STYLE}</style>'
    ]
    for index, name in enumerate(names):
        x, y = 16 + index % per_row * 190, 16 + index // per_row * LEGEND_ROW
        parts.append(
            f'<path class="line" d="M{x} {y - 4}h28" {_look(index)}/>'
            f'<text x="{x + 34}" y="{y}">{escape(name)}</text>'
        )
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({WIDTH * index} {legend_height})">')
        parts.append(_panel(panel, names))
        parts.append("</g>")
    return "".join([*parts, "</svg>\n"])


def decades(values: Sequence[float]) -> list[int]:
    """Return the exponents of the powers of ten that enclose the values, at least two."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = math.ceil(math.log10(max(values)) - 1e-9)
    return list(range(low, max(high, low + 1) + 1))


def _panel(panel: Panel, names: Sequence[str]) -> str:
    points = [point for line in panel.lines for point in line.drawable]
    if not points:
        return f'<text class="title" x="{LEFT}" y="20">{escape(panel.title)}: no figures</text>'
    xs, ys = decades([x for x, _ in points]), decades([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        up = (math.log10(y) - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)
        return LEFT + right, HEIGHT - BOTTOM - up

    floor, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<text class="title" x="{LEFT}" y="20">{escape(panel.title)}</text>',
        f'<text x="{(LEFT + end) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(panel.x_title)}</text>",
    ]
    for exponent in xs:
        x, _ = place(10.0**exponent, 10.0 ** ys[0])
        parts.append(
            f'<path class="grid" d="M{x:.1f} {TOP}V{floor}"/>'
            f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{_power(exponent)}</text>'
        )
    for exponent in ys:
        _, y = place(10.0 ** xs[0], 10.0**exponent)
        parts.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{end}"/>'
            f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_power(exponent)}</text>'
        )
    parts.append(
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{end - LEFT}" height="{floor - TOP}"/>'
    )
    for line in panel.lines:
        index = names.index(line.name)
        look, fill = _look(index), _look(index, "fill")
        placed = [place(*point) for point in line.drawable]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline class="line" points="{path}" {look}/>')
        for (x, y), (value_x, value_y) in zip(placed, line.drawable, strict=True):
            tip = f"{line.name}: {value_y:.3g} at {value_x:,.0f}"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" {fill}>'
                f"<title>{escape(tip)}</title></circle>"
            )
    return "".join(parts)


def _look(index: int, paint: str = "stroke") -> str:
    colour = f'{paint}="{COLOURS[index % len(COLOURS)]}"'
    dash = DASHES[index % len(DASHES)]
    return f'{colour} stroke-dasharray="{dash}"' if dash and paint == "stroke" else colour


def _power(exponent: int) -> str:
    return f"{10.0**exponent:,.0f}" if exponent >= 0 else f"{10.0**exponent:g}"
