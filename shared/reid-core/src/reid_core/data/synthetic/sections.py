"""Cross-sections of tubes, and what the rasteriser derives from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STATIONS",
    "BoolArray",
    "FloatArray",
    "Section",
    "sample_profile",
    "section_turn",
    "tube_bounds",
]

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

STATIONS = 128
"""Samples of a tube along its axis; finer than the pixels of the largest canvas."""


class Section(NamedTuple):
    """Elliptic cross-sections of a tube at evenly spaced stations from start to end.

    Attributes:
        width: Half-widths along the tube's side axis, m.
        depth: Half-widths along its front axis, m; as many as widths.
    """

    width: tuple[float, ...]
    depth: tuple[float, ...]

    def grown(self, margin: float) -> Section:
        """Return the section that is ``margin`` metres outside this one."""
        return Section(
            tuple(value + margin for value in self.width),
            tuple(value + margin for value in self.depth),
        )

    def cut(self, start: float, end: float) -> Section:
        """Return the stretch between two shares (0..1) of the length, with as many stations."""
        stations = np.linspace(0.0, 1.0, len(self.width))
        at = np.linspace(start, end, len(self.width))
        return Section(
            tuple(np.interp(at, stations, self.width).tolist()),
            tuple(np.interp(at, stations, self.depth).tolist()),
        )


def sample_profile(
    section: Section, length: float, caps: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Sample half-widths along a tube with its rounded ends, and a zero beyond each end."""
    total = length + caps[0] + caps[1]
    at = (np.arange(STATIONS) + 0.5) * (total / STATIONS) - caps[0]
    rounding = np.ones(STATIONS)
    for beyond, cap in ((-at, caps[0]), (at - length, caps[1])):
        if cap > 0.0:
            rounding *= np.sqrt(1.0 - np.clip(beyond / cap, 0.0, 1.0) ** 2)
    stations = np.linspace(0.0, length, len(section.width))
    # Not quite zero, so that its inverse stays finite; no pixel centre is that close to the axis.
    profiles = [np.full(STATIONS + 2, 1e-6, np.float32) for _ in range(2)]
    for profile, values in zip(profiles, section, strict=True):
        profile[1:-1] = np.maximum(np.interp(at, stations, values) * rounding, 1e-6)
    return profiles[0], profiles[1]


def section_turn(frame: FloatArray, dx: float, dy: float) -> tuple[float, float]:
    """Return cosine and sine of the angle from the lateral screen axis to the section's side."""
    lateral = float(frame[0, 0]) * dy - float(frame[1, 0]) * dx
    inward = float(frame[2, 0])
    norm = float(np.hypot(lateral, inward))
    if norm < 1e-6:
        return 1.0, 0.0
    return lateral / norm, -inward / norm


def tube_bounds(
    start: FloatArray,
    end: FloatArray,
    direction: tuple[float, float],
    section: Section,
    caps: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a tube on the screen, m."""
    reach = max(*section.width, *section.depth)
    bounds = []
    for i in range(2):
        ends = (
            float(start[i]) - caps[0] * direction[i],
            float(end[i]) + caps[1] * direction[i],
        )
        bounds += [min(ends) - reach, max(ends) + reach]
    return bounds[0], bounds[1], bounds[2], bounds[3]
