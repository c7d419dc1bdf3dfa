"""The form of Market-1501, which DukeMTMC-reID shares: three folders of bounding boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.sample import Sample
from reid_core.errors import DatasetError

__all__ = ["BOX_FOLDERS", "BOX_LABELS", "JUNK_PID", "read_boxes"]

BOX_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
"""Folders of training images, queries and gallery."""

BOX_LABELS = ("pid", "camera")
"""Groups that the pattern of a file name must have."""

JUNK_PID = -1
"""Identity of boxes that show too little of a person; they are no part of the gallery."""

_SHOWN = 5


def read_boxes(listing: Listing, pattern: NamePattern) -> Mapping[str, Sequence[Sample]]:
    """Read the three splits, sorted by file name; junk boxes are dropped.

    Args:
        listing: The data set's folder.
        pattern: How the files are called, with the groups of ``BOX_LABELS``.

    Raises:
        DatasetError: When a folder is empty, or a person of the training images is in the gallery
            or among the queries.
    """
    train, query, gallery = (
        [
            Labelled(path, int(label["pid"]), int(label["camera"]) - 1, None)
            for path, label in listing.images(folder, pattern)
            if int(label["pid"]) != JUNK_PID
        ]
        for folder in BOX_FOLDERS
    )
    shared = sorted({image.pid for image in train} & {image.pid for image in (*query, *gallery)})
    if shared:
        shown = ", ".join(map(str, shared[:_SHOWN])) + (", ..." if len(shared) > _SHOWN else "")
        raise DatasetError(
            f"{len(shared):,} people of {BOX_FOLDERS[0]} are in {BOX_FOLDERS[1]} or "
            f"{BOX_FOLDERS[2]}, too, in {listing.folder}: {shown}; training and test people must "
            "differ. Copy or extract the data set again."
        )
    query_samples, gallery_samples = label_test(query, gallery)
    return {"train": label_train(train), "query": query_samples, "gallery": gallery_samples}
