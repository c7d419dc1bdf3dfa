"""Whether the labels at hand allow a protocol, said in words. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reid_core.data.sample import Sample
from reid_core.evaluation.rules import MATCH_RULES, Labels, find_pairs

if TYPE_CHECKING:
    from reid_core.evaluation.protocols import Protocol

__all__ = ["Applicability", "applicable"]


@dataclass(frozen=True, kw_only=True)
class Applicability:
    """Whether a protocol can be used on images at hand.

    Attributes:
        protocol: Name of the protocol.
        problem: What is missing and what that switches off; empty where it can be used.
        warning: Why the result will be worthless although it can be computed; empty elsewhere.
        notes: What to know of the result.
    """

    protocol: str
    problem: str = ""
    warning: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the protocol can be used."""
        return not self.problem


def applicable(protocol: Protocol, splits: Mapping[str, Sequence[Sample]]) -> Applicability:
    """Tell whether a data set's splits and labels allow a protocol.

    Args:
        protocol: The protocol.
        splits: Split name to samples, e.g. ``ReIDDataset.splits``.

    Returns:
        A problem where a split is missing or empty, outfit labels are missing though the rule asks
        for them, or no identity of the query is in the gallery. A warning where no query has a
        match, a note where the same-camera rule removes nothing.
    """
    problem = _missing_split(protocol, splits)
    if problem:
        return Applicability(protocol=protocol.name, problem=f"{protocol.name} {problem}")
    query, gallery = splits[protocol.query], splits[protocol.gallery]
    if MATCH_RULES[protocol.match].needs_clothes:
        problem = _missing_clothes(protocol, query, gallery)
    if not problem and not {sample.pid for sample in query} & {sample.pid for sample in gallery}:
        problem = (
            f"cannot be computed: no identity of {protocol.query} occurs in {protocol.gallery}; "
            "check that both number identities alike."
        )
    if problem:
        return Applicability(protocol=protocol.name, problem=f"{protocol.name} {problem}")
    notes = []
    if not {sample.camid for sample in query} & {sample.camid for sample in gallery}:
        notes.append(
            f"{protocol.name}: {protocol.query} and {protocol.gallery} share no camera, so the "
            "same-camera rule leaves nothing out"
        )
    pairs = find_pairs(Labels.of(query), Labels.of(gallery), protocol.match)
    warning = ""
    if not pairs.positive.any():
        warning = (
            f"{protocol.name}: no image of {protocol.query} has a match in {protocol.gallery}; "
            "all results will be 0. Check the camera labels"
            + (" and the outfit labels" if MATCH_RULES[protocol.match].needs_clothes else "")
        )
    return Applicability(protocol=protocol.name, warning=warning, notes=tuple(notes))


def _missing_split(protocol: Protocol, splits: Mapping[str, Sequence[Sample]]) -> str:
    for name in protocol.splits:
        if name not in splits:
            present = ", ".join(splits) or "none"
            return f"needs the split {name!r}, which is not there (splits present: {present})."
        if not splits[name]:
            return f"needs the split {name!r}, which is empty."
    return ""


def _missing_clothes(protocol: Protocol, query: Sequence[Sample], gallery: Sequence[Sample]) -> str:
    counts = [
        f"{missing:,} of {len(samples):,} images of {name}"
        for name, samples in ((protocol.query, query), (protocol.gallery, gallery))
        if (missing := sum(sample.clothes_id < 0 for sample in samples))
    ]
    if not counts:
        return ""
    return (
        f"compares outfits, but {' and '.join(counts)} have no outfit label (clothes_id); without "
        f"outfits only {protocol.dataset}/standard can be computed."
    )
