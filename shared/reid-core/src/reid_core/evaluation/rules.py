"""Who is a match of whom: labels of two image lists, match rules, pairs of one identity.

Legend: Q queries, G gallery images, M pairs of one identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from reid_core.data.sample import Modality, Sample
from reid_core.errors import ProtocolError

__all__ = [
    "MATCH_RULES",
    "UNKNOWN",
    "Indices",
    "Labels",
    "Match",
    "MatchRule",
    "MatchStatus",
    "PairTable",
    "find_pairs",
]

Match = Literal["standard", "cloth_changing", "same_clothes", "any_camera"]
MatchStatus = Literal["right", "wrong", "junk"]
"""Of an entry of a ranked list: a match, another identity, or left out by the rule."""
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]

UNKNOWN = -1
"""A camera or outfit that is not known: it equals no other, not even another unknown one."""

_MODALITIES: tuple[str, ...] = get_args(Modality)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Labels of a list of images, as arrays.

    A label that is not known is -1 (``UNKNOWN``) or, for the modality, an empty text; None for a
    whole column means that none of its labels is known. Unknown labels are equal to nothing, and
    ``applicable`` refuses protocols that have to compare them.

    Attributes:
        pids: (N,) int64 identities. An image of identity -1 shows nobody known (the junk boxes of
            Market-1501); ``evaluate_protocol`` leaves it out.
        camids: (N,) int64 cameras, counted from 0.
        clothes_ids: (N,) int64 outfits.
        modalities: (N,) text, ``visible`` or ``infrared``.
        paths: Image files. They name a row in messages, and their order is the order of files that
            gallery draws go by; where there are none (empty) that is the order of the list.

    Lists and tensors of integers are accepted and become arrays.

    Raises:
        ProtocolError: The labels differ in length, are no integers, or name no modality.
    """

    pids: Indices
    camids: Indices = None  # type: ignore[assignment]  # filled in below
    clothes_ids: Indices = None  # type: ignore[assignment]
    modalities: Texts = None  # type: ignore[assignment]
    paths: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        lengths = {}
        count = len(self.pids)
        for name in ("pids", "camids", "clothes_ids"):
            given = getattr(self, name)
            values = np.full(count, UNKNOWN) if given is None else np.asarray(given)
            if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
                raise ProtocolError(
                    f"{name} must be a list of integers, not {values.dtype} of shape {values.shape}"
                )
            object.__setattr__(self, name, values.astype(np.int64, copy=False))
            lengths[name] = len(values)
        object.__setattr__(self, "modalities", _checked_modalities(self.modalities, count))
        lengths["modalities"] = len(self.modalities)
        if self.paths:
            lengths["paths"] = len(self.paths)
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ProtocolError(f"labels of one image list differ in length: {listed}")

    @classmethod
    def of(cls, images: Sequence[Sample] | Labels) -> Labels:
        """Collect the labels of samples; labels are returned as they are."""
        if isinstance(images, Labels):
            return images
        return cls(
            pids=np.array([sample.pid for sample in images], dtype=np.int64),
            camids=np.array([sample.camid for sample in images], dtype=np.int64),
            clothes_ids=np.array([sample.clothes_id for sample in images], dtype=np.int64),
            modalities=np.array([sample.modality for sample in images], dtype=np.str_),
            paths=tuple(sample.path for sample in images),
        )

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, rows: Indices) -> Labels:
        """Return the labels of some rows, in that order."""
        return Labels(
            pids=self.pids[rows],
            camids=self.camids[rows],
            clothes_ids=self.clothes_ids[rows],
            modalities=self.modalities[rows],
            paths=tuple(self.paths[row] for row in rows) if self.paths else (),
        )


def _checked_modalities(given: Texts | None, count: int) -> Texts:
    if given is None:
        return np.full(count, "")
    modalities = np.asarray(given, dtype=np.str_)
    known = modalities == ""
    for modality in _MODALITIES:
        known |= modalities == modality
    if modalities.ndim != 1 or not known.all():
        strange = dict.fromkeys(modalities[~known].flat)
        raise ProtocolError(
            f"modalities must be a list of {' or '.join(_MODALITIES)} (empty where unknown), not "
            f"{', '.join(map(repr, map(str, strange))) or f'of shape {modalities.shape}'}"
        )
    return modalities


@dataclass(frozen=True, kw_only=True)
class MatchRule:
    """Which gallery images of the query's own identity are matches.

    Its other images are junk: they are left out of the ranking. Images of other identities are
    never left out, whatever their camera or outfit.

    Attributes:
        text: The rule in one sentence.
        camera: Camera that a match has to come from, compared with the query's.
        clothes: Outfit that a match has to wear, compared with the query's.
    """

    text: str
    camera: Literal["other", "any"] = "other"
    clothes: Literal["any", "different", "same"] = "any"

    @property
    def needs_cameras(self) -> bool:
        """Whether the rule looks at cameras."""
        return self.camera != "any"

    @property
    def needs_clothes(self) -> bool:
        """Whether the rule looks at outfits."""
        return self.clothes != "any"

    @property
    def makes_junk(self) -> bool:
        """Whether images of the query's identity may be left out."""
        return self.needs_cameras or self.needs_clothes

    def accepts(self, same_camera: Mask, same_clothes: Mask) -> Mask:
        """Tell which pairs of one identity match.

        Args:
            same_camera: (M,) bool.
            same_clothes: (M,) bool.

        Returns:
            (M,) bool.
        """
        accepted = ~same_camera if self.needs_cameras else np.ones_like(same_camera)
        if self.clothes == "any":
            return accepted
        return accepted & (same_clothes if self.clothes == "same" else ~same_clothes)


MATCH_RULES: Mapping[Match, MatchRule] = MappingProxyType(
    {
        "standard": MatchRule(
            text="A match is an image of the query's identity from another camera."
        ),
        "cloth_changing": MatchRule(
            text="A match is an image of the query's identity from another camera and in another "
            "outfit.",
            clothes="different",
        ),
        "same_clothes": MatchRule(
            text="A match is an image of the query's identity from another camera and in the same "
            "outfit.",
            clothes="same",
        ),
        "any_camera": MatchRule(text="A match is any image of the query's identity.", camera="any"),
    }
)
"""The match rules by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTable:
    """All (query, gallery image) pairs of one identity, sorted by query, then by gallery row.

    Attributes:
        offsets: (Q + 1,) int64; the pairs of query i are ``offsets[i]:offsets[i + 1]``.
        gallery: (M,) int64 gallery rows.
        positive: (M,) bool, True for matches, False for junk.
    """

    offsets: Indices
    gallery: Indices
    positive: Mask

    @property
    def queries(self) -> Indices:
        """(M,) int64 query of each pair."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def num_positives(self) -> Indices:
        """(Q,) int64 number of matches of each query."""
        num_queries = len(self.offsets) - 1
        return np.bincount(self.queries[self.positive], minlength=num_queries).astype(np.int64)

    def take(self, rows: Indices) -> PairTable:
        """Return the pairs of some queries, in that order."""
        pairs, offsets = _concatenated_ranges(self.offsets[:-1][rows], self.offsets[1:][rows])
        return PairTable(
            offsets=offsets, gallery=self.gallery[pairs], positive=self.positive[pairs]
        )


def find_pairs(query: Labels, gallery: Labels, match: Match) -> PairTable:
    """Find all pairs of one identity and tell matches from junk.

    Args:
        query: Labels of Q images.
        gallery: Labels of G images.
        match: Name of a rule in ``MATCH_RULES``.

    Returns:
        The pairs; memory O(Q + G + M).

    Raises:
        ProtocolError: No such rule.
    """
    if match not in MATCH_RULES:
        raise ProtocolError(f"no match rule is called {match!r}; use {', '.join(MATCH_RULES)}")
    by_identity = np.argsort(gallery.pids, kind="stable")
    sorted_pids = gallery.pids[by_identity]
    starts = np.searchsorted(sorted_pids, query.pids, side="left")
    stops = np.searchsorted(sorted_pids, query.pids, side="right")
    pairs, offsets = _concatenated_ranges(starts, stops)
    columns = by_identity[pairs]
    rows = np.repeat(np.arange(len(query)), np.diff(offsets))
    same_camera = _equal(query.camids[rows], gallery.camids[columns])
    same_clothes = _equal(query.clothes_ids[rows], gallery.clothes_ids[columns])
    positive = MATCH_RULES[match].accepts(same_camera, same_clothes)
    return PairTable(offsets=offsets, gallery=columns, positive=positive)


def _equal(left: Indices, right: Indices) -> Mask:
    equal: Mask = (left == right) & (left > UNKNOWN)
    return equal


def _concatenated_ranges(starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
    """Return start_0..stop_0-1, start_1..stop_1-1, ... and the offset of each range."""
    lengths = stops - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return values, offsets
