"""Compare the sizes of a data set on disk with the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.sample import Modality, Sample, count_clothes, count_pids

__all__ = ["CountDifference", "compare_counts", "count_split", "select_counted", "split_modalities"]

_MODALITIES: tuple[Modality, ...] = ("visible", "infrared")


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


def split_modalities(split: str, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Divide a split that holds both modalities.

    Returns:
        ``<split> (visible)`` and ``<split> (infrared)``, the names that ``DatasetInfo.counts`` has
        for them, with their samples; nothing where there is one modality only.
    """
    parts = {
        f"{split} ({modality})": [sample for sample in samples if sample.modality == modality]
        for modality in _MODALITIES
    }
    return parts if all(parts.values()) else {}


def select_counted(key: str, splits: Mapping[str, Sequence[Sample]]) -> list[Sample] | None:
    """Return the samples that a key of ``DatasetInfo.counts`` counts; None where one is absent."""
    found: list[Sample] = []
    for part in key.split("+"):
        split, _, _ = part.partition(" (")
        if split not in splits:
            return None
        modalities = split_modalities(split, splits[split])
        found += splits[split] if part == split else modalities.get(part, [])
    return found


def compare_counts(
    info: DatasetInfo, splits: Mapping[str, Sequence[Sample]]
) -> tuple[CountDifference, ...]:
    """Return every figure of ``info.counts`` that the splits on disk do not have.

    A split that is absent is reported once, by its number of images; of data sets with several
    trials the reader says which are there.
    """
    differences = []
    for key, published in info.counts.items():
        samples = select_counted(key, splits)
        if samples is None:
            wanted = published.num_images
            if key in info.splits and info.num_trials == 1 and wanted is not None:
                differences.append(CountDifference(key, "images", 0, wanted))
            continue
        found = count_split(samples)
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
