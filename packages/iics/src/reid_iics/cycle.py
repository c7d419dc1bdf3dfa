"""Which stage of which cycle an epoch belongs to. Imports no torch.

A run of T cycles with E1 and E2 epochs of the two stages has T (E1 + E2) epochs, counted through.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Place", "StageName", "find_place"]

StageName = Literal["intra", "inter"]


class Place(NamedTuple):
    """An epoch's place.

    Attributes:
        cycle: From 0.
        stage: ``intra``, camera by camera, or ``inter``, all cameras together.
        first: First epoch of the stage, at which labels, heads and optimiser are made.
        ends_cycle: Whether the cycle is over after this epoch.
    """

    cycle: int
    stage: StageName
    first: int
    ends_cycle: bool


def find_place(epoch: int, intra_epochs: int, inter_epochs: int) -> Place:
    """Return the place of an epoch.

    Args:
        epoch: From 0.
        intra_epochs: E1, at least 1.
        inter_epochs: E2; 0 where there is no second stage.
    """
    cycle, step = divmod(epoch, intra_epochs + inter_epochs)
    stage: StageName = "intra" if step < intra_epochs else "inter"
    first = epoch - step + (0 if stage == "intra" else intra_epochs)
    return Place(cycle, stage, first, step + 1 == intra_epochs + inter_epochs)
