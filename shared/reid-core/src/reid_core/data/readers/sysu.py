"""SYSU-MM01: four colour cameras and two infrared ones, people listed in text files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.readers.labels import Labelled, label_test
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.readers.modalities import label_both_modalities, name_people
from reid_core.data.readers.sysu_arrays import has_arrays, read_arrays
from reid_core.data.readers.text_lists import read_ids
from reid_core.data.sample import Modality, Sample
from reid_core.errors import DatasetError

__all__ = ["SYSU", "read_sysu"]

SYSU = DatasetInfo(
    name="sysu",
    title="SYSU-MM01",
    folder="SYSU-MM01",
    layout=(
        "cam1/0001/0001.jpg ... and cam2, cam4, cam5  (colour)\n"
        "cam3/0001/0001.jpg ... and cam6  (infrared)\n"
        "exp/train_id.txt, val_id.txt, test_id.txt\n"
        "exp/rand_perm_cam.mat  (may be absent)\n"
        "train_rgb_resized_img.npy, train_rgb_resized_label.npy and train_ir_...  (may be absent)"
    ),
    required=(
        *(f"cam{number}" for number in range(1, 7)),
        "exp/train_id.txt",
        "exp/val_id.txt",
        "exp/test_id.txt",
    ),
    probe=("cam1", r"[0-9]{4}$"),
    splits=("train", "test"),
    counts={
        "train": SplitCount(395, 34167),
        "train (visible)": SplitCount(395, 22258),
        "train (infrared)": SplitCount(395, 11909),
        "test": SplitCount(96, 10578),
        "test (visible)": SplitCount(96, 6775),
        "test (infrared)": SplitCount(96, 3803),
    },
    clothes_label="none",
    source="from its authors, who ask for a signed agreement, https://github.com/wuancong/SYSU-MM01",
    paper="Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017",
)

_CAMERAS: Mapping[Modality, tuple[int, ...]] = {"visible": (1, 2, 4, 5), "infrared": (3, 6)}
_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]{4})/[0-9]+\."),
    "<person, four digits>/<frame>.jpg, e.g. 0001/0001.jpg",
)


def read_sysu(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the splits, each with its visible images first.

    Training people are those of ``train_id.txt`` and ``val_id.txt``. Images are in the official
    order: people by number, then cameras, then files by name. ``camid`` is the camera minus one.

    Where no image of the training people is there, or where ``listing.prefer_arrays`` asks for it,
    training images are rows of the official pre-processed arrays (see ``sysu_arrays``).

    Raises:
        DatasetError: When a list is wrong, a person is in training and test, or the training images
            are there neither as files nor as arrays.
    """
    exp = listing.folder / "exp"
    train_ids = [*read_ids(exp / "train_id.txt"), *read_ids(exp / "val_id.txt")]
    test_ids = read_ids(exp / "test_id.txt")
    shared = sorted(set(train_ids) & set(test_ids))
    if shared:
        raise DatasetError(
            f"{exp}: people for training (train_id.txt, val_id.txt) are in test_id.txt, too: "
            f"{name_people(shared)}; copy the lists again"
        )
    images = {modality: _read_modality(listing, modality) for modality in _CAMERAS}
    train, test = (
        [[image for image in images[modality] if image.pid in chosen] for modality in _CAMERAS]
        for chosen in (set(train_ids), set(test_ids))
    )
    _note_absent(listing, "test", test_ids, test)
    visible, infrared = label_test(*test)
    return {
        "train": _read_train(listing, train_ids, *train),
        "test": [*visible, *infrared],
    }


def _read_train(
    listing: Listing, ids: Sequence[int], visible: Sequence[Labelled], infrared: Sequence[Labelled]
) -> list[Sample]:
    from_files: list[Sample] = []
    if visible or infrared:
        _note_absent(listing, "train", ids, (visible, infrared))
        from_files = label_both_modalities(
            listing, "train", visible, infrared, rank=_rank_as_official
        )
    elif not has_arrays(listing.folder):
        raise DatasetError(
            f"no images of the {len(ids):,} people of exp/train_id.txt and exp/val_id.txt in "
            f"{listing.folder}, neither as files (cam1/0001/0001.jpg ...) nor as pre-processed "
            "arrays (train_rgb_resized_img.npy ...); copy or extract the data set again"
        )
    if from_files and not listing.prefer_arrays:
        return from_files
    return read_arrays(listing, num_people=len(ids), from_files=from_files)


def _read_modality(listing: Listing, modality: Modality) -> list[Labelled]:
    images = [
        Labelled(path, int(label["pid"]), camera - 1, None, modality)
        for camera in _CAMERAS[modality]
        for path, label in listing.images(f"cam{camera}", _NAME, nested=True)
    ]
    return sorted(images, key=lambda image: image.pid)


def _note_absent(
    listing: Listing, split: str, ids: Iterable[int], images: Iterable[Sequence[Labelled]]
) -> None:
    found = {image.pid for modality in images for image in modality}
    absent = sorted(set(ids) - found)
    if absent:
        listing.notes.append(f"{split}: {name_people(absent)} of the lists without any image")


def _rank_as_official(pids: Iterable[int]) -> Mapping[int, int]:
    """Number people in the order of a Python set that their images entered one by one.

    The official labels are in that order. CPython's sets of the 395 numbers are sorted; those of a
    few of the numbers may not be, and labels decide which people a seeded sampler draws.
    """
    seen: set[int] = set()
    for pid in pids:
        seen.add(pid)
    return {pid: label for label, pid in enumerate(seen)}
