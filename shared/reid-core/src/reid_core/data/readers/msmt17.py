"""MSMT17: fifteen cameras, indoors and outdoors, over four days; listed in text files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from reid_core.data import archives
from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test, label_train
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.readers.text_lists import ImageLists
from reid_core.data.sample import Sample

__all__ = ["MSMT17", "MSMT17_TRAINVAL", "read_msmt17", "read_msmt17_trainval"]

MSMT17 = DatasetInfo(
    name="msmt17",
    title="MSMT17",
    folder="MSMT17_V2",
    other_folders=("MSMT17_V1", "MSMT17"),
    archives=("MSMT17_V2.zip", "MSMT17_V1.zip"),
    layout=(
        "list_train.txt, list_val.txt, list_query.txt, list_gallery.txt\n"
        "mask_train_v2/0000/0000_000_01_0303morning_0008_0.jpg ...  (version 1: train)\n"
        "mask_test_v2/0000/*.jpg  (version 1: test)"
    ),
    required=(
        "list_train.txt",
        "list_query.txt",
        "list_gallery.txt",
        "mask_train_v2 or train",
        "mask_test_v2 or test",
    ),
    probe=(".", r"list_gallery\.txt$"),
    splits=("train", "query", "gallery"),
    counts={
        "train": SplitCount(1041, 30248),
        "query": SplitCount(3060, 11659),
        "gallery": SplitCount(3060, 82161),
    },
    clothes_label="none",
    source="from its authors, who ask for a signed agreement, https://www.pkuvmc.com/dataset.html",
    paper=(
        "Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, "
        "CVPR 2018"
    ),
)
MSMT17_TRAINVAL = replace(
    MSMT17,
    name="msmt17_trainval",
    title="MSMT17, trained on both lists (train and val)",
    required=("list_val.txt", *MSMT17.required),
    counts={**MSMT17.counts, "train": SplitCount(1041, 32621)},
)

_NAME = NamePattern(
    re.compile(r"(?:[^/]*/)*[0-9]+_[0-9]+_(?P<camera>0[1-9]|1[0-5])_[^/]*$"),
    "<pid>_<image>_<camera, 01 to 15>_<time>_<frame>_<box>.jpg, "
    "e.g. 0000_000_01_0303morning_0008_0.jpg",
)


def read_msmt17(
    listing: Listing, *, train_lists: Sequence[str] = ("list_train.txt",)
) -> Mapping[str, Sequence[Sample]]:
    """Read the splits in the order of their lists, which also name the people.

    Training and test number their people separately: person 0 of training is not person 0 of query
    and gallery.

    Args:
        listing: The data set's folder, of version 1 or 2 (in which faces are masked).
        train_lists: Lists whose images are for training; ``list_val.txt`` shows the same people.

    Raises:
        DatasetError: When a list cannot be read or is wrong, or images of it are missing.
    """
    is_masked = archives.is_folder(listing.folder / "mask_train_v2")
    train_folder, test_folder = (
        ("mask_train_v2", "mask_test_v2") if is_masked else ("train", "test")
    )
    lists = {
        folder: ImageLists(listing.folder, images=folder) for folder in (train_folder, test_folder)
    }

    def read(name: str, folder: str) -> list[Labelled]:
        images = []
        for path, pid in lists[folder].read(name):
            label = _NAME.regex.match(path.name)
            if label is None:
                listing.misnamed.append((path, _NAME))
            else:
                images.append(Labelled(path, pid, int(label["camera"]) - 1, None))
        return images

    train = [image for name in train_lists for image in read(name, train_folder)]
    query, gallery = label_test(
        read("list_query.txt", test_folder), read("list_gallery.txt", test_folder)
    )
    return {"train": label_train(train), "query": query, "gallery": gallery}


read_msmt17_trainval = partial(read_msmt17, train_lists=("list_train.txt", "list_val.txt"))
