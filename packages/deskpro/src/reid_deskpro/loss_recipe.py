"""The official grammar of loss recipes: weighted names joined by plus signs."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from reid_core.errors import ConfigError

__all__ = ["LossName", "LossTerm", "parse_loss_recipe"]

LossName = Literal["CrossEntropy", "Triplet", "MSLoss"]


class LossTerm(NamedTuple):
    """One term of a recipe.

    Attributes:
        name: Which loss: of the logits (CrossEntropy) or of the features (Triplet, MSLoss).
        weight: Its factor, at least 0.
    """

    name: LossName
    weight: float


def parse_loss_recipe(text: str) -> tuple[LossTerm, ...]:
    """Read a recipe such as ``1*CrossEntropy+1*Triplet``.

    Args:
        text: ``weight*Name`` joined by ``+``; spaces do not matter.

    Returns:
        The terms in their order; at least one, each name once.

    Raises:
        ConfigError: When a term is not of this form, a name is unknown or there twice, or a weight
            is negative or not finite.
    """
    terms = tuple(_parse_term(part.strip(), text) for part in text.split("+"))
    names = [term.name for term in terms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the loss recipe {text!r} holds {', '.join(twice)} twice; join them")
    return terms


def _parse_term(part: str, text: str) -> LossTerm:
    number, star, name = (piece.strip() for piece in part.partition("*"))
    try:
        weight = float(number) if star else math.nan
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(
            f"cannot read {part!r} in the loss recipe {text!r}; a recipe is weight*Name joined by "
            "plus signs with weights of at least 0, e.g. 1*CrossEntropy+1*Triplet"
        )
    for known in get_args(LossName):
        if name == known:
            return LossTerm(known, weight)
    raise ConfigError(
        f"unknown loss {name!r} in the recipe {text!r}; there are {', '.join(get_args(LossName))}"
    )
