"""How many images have their masks and faces, and which people training loses. Imports no NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reid_core.data.companions import COMPANION_KINDS, CompanionKind, has_companions
from reid_core.data.sample import ReIDDataset, Sample, count_pids
from reid_core.data.tables import format_table

__all__ = ["Census", "SplitCensus", "take_census"]

_LOST_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class SplitCensus:
    """What the images of a split have.

    Attributes:
        images: Number of images.
        identities: Number of people.
        having: Images that have each kind of companion.
        complete: Images that have all kinds; only these are trained on.
    """

    images: int
    identities: int
    having: Mapping[CompanionKind, int]
    complete: int


@dataclass(frozen=True, kw_only=True)
class Census:
    """What a prepared data set has.

    Attributes:
        splits: Figures by split.
        lost: People of each training split none of whose images is complete, as their file names
            have them.
    """

    splits: Mapping[str, SplitCensus]
    lost: Mapping[str, tuple[str, ...]]

    @property
    def classes(self) -> dict[str, int]:
        """People who can be trained on, by training split: the K of the published code."""
        return {
            split: self.splits[split].identities - len(lost) for split, lost in self.lost.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain JSON values."""
        return {
            "splits": {split: asdict(figures) for split, figures in self.splits.items()},
            "training": {
                split: {"identities": self.classes[split], "lost": list(lost)}
                for split, lost in self.lost.items()
            },
        }

    def format(self) -> str:
        """Return a table with a row per split, and a line on the people of each training split."""
        heading = ["split", "images", "identities", *COMPANION_KINDS, "all three"]
        rows = [heading]
        for split, found in self.splits.items():
            counts = [*(found.having[kind] for kind in COMPANION_KINDS), found.complete]
            shown = [_of(count, found.images) for count in counts]
            rows.append([split, f"{found.images:,}", f"{found.identities:,}", *shown])
        lines = [format_table(rows), ""]
        for split, lost in self.lost.items():
            lines.append(_describe_people(split, self.splits[split], lost))
        return "\n".join(lines).rstrip()


def take_census(dataset: ReIDDataset) -> Census:
    """Count what the samples of a data set have.

    Args:
        dataset: A data set with its companions attached (``attach_companions``).
    """
    return Census(
        splits={split: _count(samples) for split, samples in dataset.splits.items()},
        lost={
            split: _lost(samples)
            for split, samples in dataset.splits.items()
            if split.startswith("train")
        },
    )


def _count(samples: Sequence[Sample]) -> SplitCensus:
    having = Counter(kind for sample in samples for kind in COMPANION_KINDS if kind in sample.extra)
    return SplitCensus(
        images=len(samples),
        identities=count_pids(samples),
        having={kind: having[kind] for kind in COMPANION_KINDS},
        complete=sum(has_companions(sample) for sample in samples),
    )


def _lost(samples: Sequence[Sample]) -> tuple[str, ...]:
    people = {sample.pid: str(sample.extra.get("identity", sample.pid)) for sample in samples}
    kept = {sample.pid for sample in samples if has_companions(sample)}
    return tuple(people[pid] for pid in sorted(people.keys() - kept))


def _of(count: int, total: int) -> str:
    share = f" ({count / total:.1%})" if total and count not in (0, total) else ""
    return f"{count:,}{share}"


def _describe_people(split: str, found: SplitCensus, lost: Sequence[str]) -> str:
    absent = [kind for kind, count in found.having.items() if not count]
    if absent:
        return (
            f"{split}: no image has a {' or a '.join(absent)} yet; training needs all three kinds, "
            "evaluation only lr_face"
        )
    kept = found.identities - len(lost)
    line = f"{split}: images that can be trained on: {found.complete:,}, of {kept:,} identities"
    if not lost:
        return line
    shown = ", ".join(lost[:_LOST_SHOWN]) + (", ..." if len(lost) > _LOST_SHOWN else "")
    return f"{line}; lost are {len(lost):,} of {found.identities:,} identities: {shown}"
