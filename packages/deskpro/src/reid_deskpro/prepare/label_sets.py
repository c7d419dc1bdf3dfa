"""The labels of human-parsing data sets: which are clothes, which are a face. Imports no NumPy.

A label map says of every pixel which part of a person it shows. Networks that make such maps are
trained on one of a few data sets, whose numbers are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from reid_core.errors import ConfigError

__all__ = ["IGNORED_LABEL", "LABEL_SETS", "LabelSet", "LabelSetName", "kept_labels"]

LabelSetName = Literal["lip", "atr", "pascal"]

IGNORED_LABEL = 255
"""What label maps hold, by convention, where nobody can say what a pixel shows; background here."""


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of one data set.

    Attributes:
        title: Name and publication of the data set.
        names: Name of each label, by its number; 0 is the background.
        not_clothing: Labels of body parts that a change of clothes leaves as they are.
        face: Labels of a face that is turned to the camera; none where the data set does not tell
            faces from heads.
        head: Labels of the head, from any side.
    """

    title: str
    names: tuple[str, ...]
    not_clothing: tuple[int, ...]
    face: tuple[int, ...]
    head: tuple[int, ...]


LABEL_SETS: Mapping[LabelSetName, LabelSet] = MappingProxyType(
    {
        "lip": LabelSet(
            title="LIP (Gong et al., CVPR 2017)",
            names=(
                *("background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress"),
                *("coat", "socks", "pants", "jumpsuit", "scarf", "skirt", "face", "left arm"),
                *("right arm", "left leg", "right leg", "left shoe", "right shoe"),
            ),
            not_clothing=(2, 13, 14, 15, 16, 17),
            face=(4, 13),
            head=(1, 2, 4, 13),
        ),
        "atr": LabelSet(
            title="ATR (Liang et al., TPAMI 2015)",
            names=(
                *("background", "hat", "hair", "sunglasses", "upper clothes", "skirt", "pants"),
                *("dress", "belt", "left shoe", "right shoe", "face", "left leg", "right leg"),
                *("left arm", "right arm", "bag", "scarf"),
            ),
            not_clothing=(2, 11, 12, 13, 14, 15),
            face=(3, 11),
            head=(1, 2, 3, 11),
        ),
        "pascal": LabelSet(
            title="Pascal-Person-Part (Chen et al., CVPR 2014)",
            names=(
                *("background", "head", "torso", "upper arms", "lower arms", "upper legs"),
                "lower legs",
            ),
            not_clothing=(1,),
            face=(),
            head=(1,),
        ),
    }
)
"""The label sets by the names that ``--labels`` takes."""


def kept_labels(name: LabelSetName, keep: Sequence[int], background: int) -> tuple[int, ...]:
    """Return the labels whose pixels a mask keeps (255): what is not clothing.

    Args:
        name: Label set.
        keep: Labels to keep instead of the label set's own choice; none for that.
        background: 1 to keep the background, too, which may be seen from anywhere.

    Returns:
        The labels in rising order.

    Raises:
        ConfigError: When a label is not one of the set, or all of them would be kept.
    """
    labels = LABEL_SETS[name]
    unknown = [label for label in keep if not 0 <= label < len(labels.names)]
    if unknown:
        listing = ", ".join(f"{number} {text}" for number, text in enumerate(labels.names))
        raise ConfigError(
            f"keep={' '.join(map(str, unknown))}: {labels.title} has no such label; it has "
            f"{listing}"
        )
    chosen = set(keep or labels.not_clothing) | ({0} if background else set())
    if chosen == set(range(len(labels.names))):
        raise ConfigError(
            "keep names every label, so that masks would hide nothing; leave some out"
        )
    return tuple(sorted(chosen))
