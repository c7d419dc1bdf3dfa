import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.report.charts import Series, histogram, line_chart, nice_ticks

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(low=NUMBERS, high=NUMBERS, count=st.integers(1, 8), integer=st.booleans())
def test_ticks_are_few_even_and_cover_the_range(low, high, count, integer):
    ticks = nice_ticks(low, high, count, integer=integer)
    steps = np.diff(ticks)
    tolerance = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= high - tolerance
    assert 2 <= len(ticks) <= count + 3
    assert np.allclose(steps, steps[0])
    if integer:
        assert all(tick == int(tick) for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "count", "integer", "expected"),
    [
        (0, 1, 4, False, [0, 0.25, 0.5, 0.75, 1]),
        (0, 0.41, 4, False, [0, 0.2, 0.4, 0.6]),
        (0, 0.00035, 4, False, [0, 0.0001, 0.0002, 0.0003, 0.0004]),
        (0, 0, 4, False, [0, 0.25, 0.5, 0.75, 1]),
        (-3, 3, 3, False, [-4, -2, 0, 2, 4]),
        (1, 60, 6, True, [0, 10, 20, 30, 40, 50, 60]),
        (1, 3, 6, True, [1, 2, 3]),
        (5, 5, 6, True, [5, 6]),
    ],
)
def test_ticks_by_hand(low, high, count, integer, expected):
    assert nice_ticks(low, high, count, integer=integer) == expected


def polyline(svg):
    points = re.search(r'<polyline class="line \w+" points="([^"]*)"', svg)
    assert points is not None
    return [tuple(map(float, point.split(","))) for point in points[1].split()]


def test_line_runs_from_edge_to_edge_and_skips_what_cannot_be_drawn():
    values = [(1, 0.0), (2, math.nan), (3, math.inf), (4, 1.0), (5, 0.5)]
    svg = line_chart([Series("a", "trained", values)], label="a < b", x_label="epoch")
    points = polyline(svg)
    assert len(points) == 3
    ys = {y for _, y in points}
    assert points[1][1] == min(ys)  # the largest value is highest on the page
    assert points[0][1] == max(ys)
    assert points[2][1] == pytest.approx((min(ys) + max(ys)) / 2, abs=0.1)
    assert points[-1][0] == 350
    assert 'aria-label="a &lt; b"' in svg
    assert "a, epoch 4: 1" in svg


def test_one_epoch_is_a_dot():
    svg = line_chart([Series("a", "trained", [(1, 0.5)])], label="", x_label="epoch", percent=True)
    assert 'class="dot trained"' in svg
    assert "a, epoch 1: 50.0 %" in svg
    assert "nan" not in svg


def test_long_runs_have_few_hover_points_but_all_line_points():
    values = [(epoch, 1 / (epoch + 1)) for epoch in range(1000)]
    svg = line_chart([Series("a", "trained", values)], label="", x_label="epoch")
    assert len(polyline(svg)) == 1000
    assert svg.count("<circle") <= 150


def test_histogram_shows_the_share_of_each_bin():
    values = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    series = [("before", "untrained", np.array([0.0])), ("after", "trained", values)]
    svg = histogram(series, label="", x_label="AP")
    tips = re.findall(r"<title>after: ([\d.]+) % of queries between (\d+) and (\d+) %", svg)
    shares = {(int(low), int(high)): float(share) for share, low, high in tips}
    assert shares.pop((0, 10)) == 40
    assert shares.pop((10, 20)) == 20
    assert shares.pop((90, 100)) == 40
    assert set(shares.values()) == {0}
    assert svg.count('class="line untrained"') == 1


def test_histograms_of_equal_style_are_both_drawn():
    series = [("one", "evaluated", np.array([0.5])), ("two", "evaluated", np.array([0.5]))]
    svg = histogram(series, label="", x_label="AP")
    assert svg.count('class="line evaluated"') == 1
    assert svg.count('class="bar evaluated"') == 10
