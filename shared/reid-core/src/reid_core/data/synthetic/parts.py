"""Body-part labels of the masks.

The numbers are those of the ATR human-parsing data set (18 classes; Liang et al., TPAMI 2015), so
code that reads the output of a human parser trained on ATR reads these masks unchanged.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CLOTHING_PARTS", "IDENTITY_PARTS", "Part"]


class Part(IntEnum):
    """Label of one mask pixel. ``BACKGROUND`` includes whatever stands in front of the person."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    SUNGLASSES = 3
    UPPER_CLOTHES = 4
    SKIRT = 5
    PANTS = 6
    DRESS = 7
    BELT = 8
    LEFT_SHOE = 9
    RIGHT_SHOE = 10
    FACE = 11
    LEFT_LEG = 12
    RIGHT_LEG = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    BAG = 16
    SCARF = 17


# Left and right are the person's own. FACE is the head without hair, and the neck; LEFT_ARM to
# RIGHT_LEG are bare skin only. Glasses stay FACE: they belong to the identity, not to the outfit,
# so SUNGLASSES (and BELT, which is not drawn) never occurs.
IDENTITY_PARTS = frozenset(
    {Part.HAIR, Part.FACE, Part.LEFT_LEG, Part.RIGHT_LEG, Part.LEFT_ARM, Part.RIGHT_ARM}
)
CLOTHING_PARTS = frozenset(
    {
        Part.HAT,
        Part.UPPER_CLOTHES,
        Part.SKIRT,
        Part.PANTS,
        Part.DRESS,
        Part.LEFT_SHOE,
        Part.RIGHT_SHOE,
        Part.BAG,
        Part.SCARF,
    }
)
