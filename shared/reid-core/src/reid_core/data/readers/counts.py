"""Compare the sizes of a data set on disk with the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.sample import Sample, count_clothes, count_pids

__all__ = ["CountDifference", "compare_counts", "count_split"]


class CountDifference(NamedTuple):
    """One figure that is not the published one.

    Attributes:
        split: Name of the split, or several joined by ``+`` that are counted together.
        what: What was counted.
        found: On disk.
        published: In the publication or in the official reader.
    """

    split: str
    what: Literal["identities", "images", "outfits"]
    found: int
    published: int

    @property
    def sentence(self) -> str:
        """The difference in words."""
        if self.found == 0:
            return f"{self.split}: absent (published: {self.published:,} {self.what})"
        missing = self.published - self.found
        change = f"{missing:,} missing" if missing > 0 else f"{-missing:,} too many"
        return f"{self.split}: {self.what} {self.found:,}, published {self.published:,} ({change})"


def count_split(samples: Sequence[Sample]) -> SplitCount:
    """Count the identities, images and outfits of a split."""
    return SplitCount(count_pids(samples), len(samples), count_clothes(samples))


def compare_counts(
    info: DatasetInfo, splits: Mapping[str, Sequence[Sample]]
) -> tuple[CountDifference, ...]:
    """Return every figure of ``info.counts`` that the splits on disk do not have.

    A split that is absent is reported once, by its number of images.
    """
    differences = []
    for key, published in info.counts.items():
        parts = key.split("+")
        if any(part not in splits for part in parts):
            if len(parts) == 1 and published.num_images is not None:
                differences.append(CountDifference(key, "images", 0, published.num_images))
            continue
        found = count_split([sample for part in parts for sample in splits[part]])
        figures: tuple[
            tuple[Literal["identities", "images", "outfits"], int | None, int | None], ...
        ]
        figures = (
            ("images", found.num_images, published.num_images),
            ("identities", found.num_pids, published.num_pids),
            ("outfits", found.num_clothes, published.num_clothes),
        )
        for what, have, want in figures:
            if have is not None and want is not None and have != want:
                differences.append(CountDifference(key, what, have, want))
    return tuple(differences)
