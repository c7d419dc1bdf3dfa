"""What a method needs of a data set before it starts to train."""

from __future__ import annotations

from reid_core.data.sample import ReIDDataset
from reid_core.errors import DatasetError

__all__ = ["require_trainable"]


def require_trainable(
    dataset: ReIDDataset, *, clothes: bool = False, identities: bool = True
) -> None:
    """Refuse a data set that a method cannot learn from.

    Args:
        dataset: The data set.
        clothes: The method also needs outfit labels, at least two outfits.
        identities: The method needs identities, at least two.

    Raises:
        DatasetError: When there is no training split, or (where they are needed) fewer than two
            identities, images without outfit labels or fewer than two outfits.
    """
    where = f"{dataset.name} in {dataset.root}"
    if not dataset.train:
        present = ", ".join(dataset.splits) or "none"
        raise DatasetError(f"{where} has no training images (splits present: {present})")
    if identities and dataset.num_pids < 2:
        raise DatasetError(
            f"{where} has {dataset.num_pids} identity in its training split; "
            "telling people apart can only be learnt from two or more"
        )
    if not clothes:
        return
    unlabelled = sum(sample.clothes_id < 0 for sample in dataset.train)
    if unlabelled:
        raise DatasetError(
            f"{where}: {unlabelled:,} of {len(dataset.train):,} training images have no outfit "
            "label, which this method needs; add a clothes_id column or outfit folders"
        )
    if dataset.num_clothes < 2:
        raise DatasetError(f"{where} has one outfit in its training split; two or more are needed")
