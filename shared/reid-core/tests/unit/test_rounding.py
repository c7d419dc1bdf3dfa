"""Figures are rounded as people round them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.rounding import one_decimal, percent


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (47.65, "47.7"),  # Python's formatting says 47.6: the binary fraction lies below
        (0.25, "0.3"),  # and 0.2: an exact half goes to the even digit
        (59.23, "59.2"),
        (100, "100.0"),
        (99.95, "100.0"),
        (0, "0.0"),
        (1e-16, "0.0"),
        (-0.25, "-0.3"),
        (math.nan, "nan"),
    ],
)
def test_halves_go_up(value, shown):
    assert one_decimal(value) == shown


def test_signs():
    assert [one_decimal(value, signed=True) for value in (0.85, 0.0, -0.85, math.inf)] == [
        *("+0.9", "+0.0", "-0.9", "+inf")
    ]


@given(st.integers(0, 10_000))
def test_every_published_figure_of_two_decimals(hundredths):
    """Written in a paper as percent, held as a fraction."""
    fraction = hundredths / 10_000
    tenths, rest = divmod(hundredths, 10)
    expected = tenths + (rest >= 5)
    assert percent(fraction) == one_decimal(hundredths / 100) == f"{expected // 10}.{expected % 10}"


@given(st.floats(0, 1))
def test_what_is_no_half_is_rounded_as_ever(fraction):
    distance = abs(Fraction(fraction) * 1000 % 1 - Fraction(1, 2))
    if distance > 1e-8:
        assert percent(fraction) == f"{100 * fraction:.1f}"
