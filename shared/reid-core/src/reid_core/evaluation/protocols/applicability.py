"""Whether the labels at hand allow a protocol, said in words. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from reid_core.data.sample import Sample
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.galleries import labels_under, plan_searches, take_rows
from reid_core.evaluation.rules import MATCH_RULES, UNKNOWN, Labels, Mask, find_pairs

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """One pair of splits under a protocol that draws nothing.

    Draws have no say in what is possible: they leave out no identity and no camera.
    """

    protocol: Protocol
    names: tuple[str, str]
    query: Labels
    gallery: Labels

    @property
    def sides(self) -> Mapping[str, Labels]:
        return {self.names[0]: self.query, self.names[1]: self.gallery}

    @cached_property
    def searches(self) -> list[tuple[Labels, Labels]]:
        """Labels of queries and of the images that they search, group by group."""
        return [
            (take_rows(self.query, search.queries), take_rows(self.gallery, search.gallery))
            for search in plan_searches(self.protocol, self.query, self.gallery)
        ]


def applicable(
    protocol: Protocol, splits: Mapping[str, Sequence[Sample] | Labels], *, present: str = ""
) -> Applicability:
    """Tell whether a data set's splits and labels allow a protocol.

    Args:
        protocol: The protocol.
        splits: Split name to samples, e.g. ``ReIDDataset.splits``, or to labels.
        present: What a message lists as the splits present; the names of ``splits`` if left out.

    Returns:
        A problem where a split is missing or empty, labels are missing that the protocol asks for,
        its filters leave nothing, or no identity of the query is in the gallery. A warning where no
        query has a match or queries lie in their own gallery. Notes on what else to know: that the
        same-camera rule removes nothing, images of no identity, lists that are not at hand.
    """
    problem = _missing_split(protocol, splits, present or ", ".join(splits) or "none")
    if problem:
        return Applicability(protocol=protocol.name, problem=f"{protocol.name} {problem}")
    trials = protocol.trials_in(splits)
    notes: list[str] = []
    warnings: list[str] = []
    if len(trials) < protocol.trials:
        numbers = ", ".join(str(trial + 1) for trial in trials)
        notes.append(f"evaluated on the lists that are there, of {protocol.trials}: {numbers}")
    undrawn = replace(protocol, query_draw="all", gallery_draw="all")
    for names in dict.fromkeys(protocol.splits_of_trial(trial) for trial in trials):
        query, gallery = (labels_under(protocol, Labels.of(splits[name])) for name in names)
        case = _Case(protocol=undrawn, names=names, query=query, gallery=gallery)
        problem = _missing_labels(protocol, case.sides) or _nothing_to_find(case)
        if problem:
            return Applicability(protocol=protocol.name, problem=f"{protocol.name} {problem}")
        notes += _notes(case)
        warnings += _warnings(case)
    return Applicability(
        protocol=protocol.name,
        warning=f"{protocol.name}: {warnings[0]}" if warnings else "",
        notes=tuple(f"{protocol.name}: {note}" for note in notes),
    )


def _missing_split(
    protocol: Protocol, splits: Mapping[str, Sequence[Sample] | Labels], present: str
) -> str:
    trials = protocol.trials_in(splits)
    needed = protocol.splits
    if protocol.trial_lists:
        if not trials:
            return (
                f"needs at least one of the splits {needed[0]!r} to {needed[-1]!r}; none is there "
                f"(splits present: {present})."
            )
        needed = tuple(name for trial in trials for name in protocol.splits_of_trial(trial))
    for name in needed:
        if name not in splits:
            return f"needs the split {name!r}, which is not there (splits present: {present})."
        if not len(splits[name]):
            return f"needs the split {name!r}, which is empty."
    return ""


def _missing_labels(protocol: Protocol, sides: Mapping[str, Labels]) -> str:
    if protocol.needs_cameras:
        counts = _count(sides, lambda side: side.camids <= UNKNOWN)
        if counts:
            return (
                f"compares cameras, but {counts} have no camera label (camid); without cameras "
                "only custom/any_camera can be computed."
            )
    if protocol.needs_clothes:
        counts = _count(sides, lambda side: side.clothes_ids <= UNKNOWN)
        if counts:
            return (
                f"compares outfits, but {counts} have no outfit label (clothes_id); without "
                f"outfits only {protocol.dataset}/standard can be computed."
            )
    if protocol.needs_modalities:
        counts = _count(sides, lambda side: side.modalities == "")
        if counts:
            return (
                f"tells visible from infrared images, but {counts} have no modality; without it "
                f"no protocol of {protocol.dataset} can be computed."
            )
    return ""


def _count(sides: Mapping[str, Labels], missing: Callable[[Labels], Mask]) -> str:
    """Return ``n of N images of <split>`` for the splits in which some image lacks a label.

    Images of no identity do not count: they are not used.
    """
    return " and ".join(
        f"{number:,} of {len(side):,} images of {name}"
        for name, side in sides.items()
        if (number := int((missing(side) & (side.pids > UNKNOWN)).sum()))
    )


def _nothing_to_find(case: _Case) -> str:
    protocol = case.protocol
    if not case.searches:
        return f"cannot be computed: there is no {protocol.query_images.format('')}."
    if not any(len(gallery) for _, gallery in case.searches):
        return f"cannot be computed: there is no {protocol.gallery_images.format('')}."
    if any(np.isin(query.pids, gallery.pids).any() for query, gallery in case.searches):
        return ""
    query, gallery = case.names
    if query == gallery:
        query, gallery = "the queries", "the gallery"
    return (
        f"cannot be computed: no identity of {query} occurs in {gallery}; check that both number "
        "identities alike."
    )


def _notes(case: _Case) -> list[str]:
    notes = []
    for name, side in case.sides.items():
        nobody = int((side.pids <= UNKNOWN).sum())
        if nobody:
            notes.append(f"{nobody:,} of {len(side):,} images of {name} have the identity -1")
    query, gallery = case.names
    rule = MATCH_RULES[case.protocol.match]
    if rule.needs_cameras and not np.isin(case.query.camids, case.gallery.camids).any():
        notes.append(
            f"{query} and {gallery} share no camera, so the same-camera rule leaves nothing out"
        )
    return notes


def _warnings(case: _Case) -> list[str]:
    rule = MATCH_RULES[case.protocol.match]
    pairs = (find_pairs(*search, case.protocol.match) for search in case.searches)
    if not any(found.positive.any() for found in pairs):
        query, gallery = case.names
        outfits = " and the outfit labels" if rule.needs_clothes else ""
        return [
            f"no image of {query} has a match in {gallery}; all results will be 0. Check the "
            f"camera labels{outfits}"
        ]
    if rule.needs_cameras:
        return []
    num_own = sum(len({*query.paths} & {*gallery.paths}) for query, gallery in case.searches)
    if not num_own:
        return []
    return [
        f"{num_own:,} queries are in the gallery as well and will find themselves; leave them out "
        "of one of the two"
    ]
