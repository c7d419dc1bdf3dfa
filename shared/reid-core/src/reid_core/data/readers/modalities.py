"""Labels of data sets in two modalities: training people need images in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from reid_core.data.readers.labels import Labelled
from reid_core.data.readers.listing import Listing
from reid_core.data.sample import Sample, relabel
from reid_core.errors import DatasetError

__all__ = ["label_both_modalities", "name_people"]

_SHOWN = 5


def label_both_modalities(
    listing: Listing,
    split: str,
    visible: Sequence[Labelled],
    infrared: Sequence[Labelled],
    *,
    rank: Callable[[Iterable[int]], Mapping[int, int]] = relabel,
) -> list[Sample]:
    """Relabel a training split jointly over its two modalities.

    Args:
        listing: Takes the note on people who are left out.
        split: Name of the split, for messages.
        visible: Visible images.
        infrared: Infrared images.
        rank: From the identity of every infrared image that is kept to labels 0..N-1.

    Returns:
        All visible samples in their order, then all infrared ones. People with images in one
        modality only are left out: nothing across modalities can be learnt from them, and the
        official samplers need both.

    Raises:
        DatasetError: When nobody is left.
    """
    both = {image.pid for image in visible} & {image.pid for image in infrared}
    alone = sorted({image.pid for image in (*visible, *infrared)} - both)
    if not both:
        raise DatasetError(
            f"nobody in {split} of {listing.folder} has both visible and infrared images; copy or "
            "extract the data set again"
        )
    if alone:
        listing.notes.append(
            f"{split}: left out are {name_people(alone)}, seen in one modality only"
        )
    pids = rank(image.pid for image in infrared if image.pid in both)
    return [
        Sample(image.path, pids[image.pid], image.camid, -1, image.modality)
        for image in (*visible, *infrared)
        if image.pid in both
    ]


def name_people(pids: Sequence[int]) -> str:
    """Say which people, the first few by number: ``2 people (7, 12)``."""
    count = "1 person" if len(pids) == 1 else f"{len(pids):,} people"
    more = ", ..." if len(pids) > _SHOWN else ""
    return f"{count} ({', '.join(map(str, pids[:_SHOWN]))}{more})"
