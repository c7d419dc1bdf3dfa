"""LLCM: nine cameras in low light, each of which takes colour and near-infrared images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.locate import describe_folder, list_names
from reid_core.data.readers.labels import Labelled, label_test
from reid_core.data.readers.listing import Listing, NamePattern
from reid_core.data.readers.modalities import label_both_modalities, name_people
from reid_core.data.readers.text_lists import ImageLists, read_ids
from reid_core.data.sample import Modality, Sample
from reid_core.errors import DatasetError

__all__ = ["LLCM", "read_llcm"]

LLCM = DatasetInfo(
    name="llcm",
    title="LLCM",
    folder="LLCM",
    layout=(
        "idx/train_vis.txt, train_nir.txt, test_id.txt\n"
        "vis/0001/*.jpg and nir/0001/*.jpg  (training; the lists say where)\n"
        "test_vis/cam1/0002/0002_c01_s000001_f000001_vis.jpg ...\n"
        "test_nir/cam1/0002/0002_c01_s000001_f000001_nir.jpg ..."
    ),
    required=("idx/train_vis.txt", "idx/train_nir.txt", "idx/test_id.txt", "test_vis", "test_nir"),
    probe=("test_vis", r"cam[1-9][0-9]*$"),
    splits=("train", "test"),
    counts={
        "train": SplitCount(713, 30921),
        "train (visible)": SplitCount(713, 16946),
        "train (infrared)": SplitCount(713, 13975),
        "test": SplitCount(351, 15846),
        "test (visible)": SplitCount(None, 8680),
        "test (infrared)": SplitCount(None, 7166),
    },
    clothes_label="none",
    source="from its authors, who ask for a signed agreement, https://github.com/ZYK100/LLCM",
    paper=(
        "Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality "
        "Benchmark for Visible-Infrared Person Re-identification, CVPR 2023"
    ),
)

# Names of the modalities in lists and folders.
_MODALITIES: Mapping[str, Modality] = {"vis": "visible", "nir": "infrared"}
_CAMERA_FOLDER = re.compile(r"cam([1-9][0-9]*)/$")
_TEST_NAME = NamePattern(
    re.compile(r"(?P<pid>[0-9]{4})/[^/]+$"),
    "<person, four digits>/<image>.jpg, e.g. 0002/0002_c01_s000001_f000001_vis.jpg",
)
_CAMERA_IN_NAME = re.compile(r"[0-9]+_c0*([1-9][0-9]*)_")


def read_llcm(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the splits, each with its visible images first.

    Training images are those of the lists, in their order. Test images are those of the people in
    ``test_id.txt`` below ``test_vis/cam*`` and ``test_nir/cam*``: people by number, then cameras,
    then files by name. ``camid`` is the camera minus one; both modalities share the numbers. In
    training it comes from the file name, and is -1 where that names none (no method needs it).

    Raises:
        DatasetError: When a list is wrong, or a listed image is not there.
    """
    lists = ImageLists(listing.folder)
    train = (
        [
            Labelled(path, pid, _camera_in(path), None, modality)
            for path, pid in lists.read(f"idx/train_{name}.txt")
        ]
        for name, modality in _MODALITIES.items()
    )
    ids = read_ids(listing.folder / "idx" / "test_id.txt")
    test = [_read_test(listing, name, frozenset(ids)) for name in _MODALITIES]
    absent = sorted(set(ids) - {image.pid for modality in test for image in modality})
    if absent:
        listing.notes.append(f"test: {name_people(absent)} of test_id.txt without any image")
    visible, infrared = label_test(*test)
    return {
        "train": label_both_modalities(listing, "train", *train),
        "test": [*visible, *infrared],
    }


def _read_test(listing: Listing, name: str, ids: frozenset[int]) -> list[Labelled]:
    below = f"test_{name}"
    folder = listing.folder / below
    matches = map(_CAMERA_FOLDER.match, list_names(folder))
    # Camera 3 has no infrared images; a copy may have an empty folder for it.
    cameras = sorted(int(match[1]) for match in matches if match and list_names(folder / match[0]))
    if not cameras:
        raise DatasetError(
            f"no folders cam1, cam2, ... in {folder}; {describe_folder(folder)}. Copy or extract "
            "the data set again."
        )
    images = [
        Labelled(path, int(label["pid"]), camera - 1, None, _MODALITIES[name])
        for camera in cameras
        for path, label in listing.images(f"{below}/cam{camera}", _TEST_NAME, nested=True)
        if int(label["pid"]) in ids
    ]
    return sorted(images, key=lambda image: image.pid)


def _camera_in(path: Path) -> int:
    match = _CAMERA_IN_NAME.match(path.name)
    return -1 if match is None else int(match[1]) - 1
