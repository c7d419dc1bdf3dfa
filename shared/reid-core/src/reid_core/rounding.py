"""How figures are rounded where people read them: as papers print them. Imports no torch."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

__all__ = ["one_decimal", "percent"]

# Of a product with 100 or a mean: what comes after them is noise of binary fractions.
_DIGITS = 12

_TENTH = Decimal("0.1")


def one_decimal(value: float, *, signed: bool = False) -> str:
    """Round to one decimal, halves away from zero: 47.65 is 47.7, as people round.

    Python's own formatting rounds the binary fraction, which for 47.65 lies below it, and exact
    halves to the even digit.

    Args:
        value: The number, for example in percent; NaN and infinities are written as Python does.
        signed: Write a plus sign before what is not negative.
    """
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return f"{value:{sign}}"
    rounded = Decimal(f"{value:.{_DIGITS}g}").quantize(_TENTH, rounding=ROUND_HALF_UP)
    return f"{rounded:{sign}f}"


def percent(fraction: float) -> str:
    """Format a fraction as percent with one decimal and no sign: 0.4765 is 47.7."""
    return one_decimal(100 * fraction)
