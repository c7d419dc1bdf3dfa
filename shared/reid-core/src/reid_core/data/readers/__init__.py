"""Readers: from a folder on disk to samples with labels. Imports neither torch nor NumPy.

``load_dataset("ltcc", root)`` is all that most callers need. Published data sets are in
``READERS``; ``folder`` and ``csv`` read one's own images.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from reid_core.data import archives
from reid_core.data.layout import SYNTHETIC_MARKER, DatasetInfo, SplitCount
from reid_core.data.locate import (
    describe_folder,
    find_layouts,
    find_named,
    list_names,
    locate_dataset,
)
from reid_core.data.readers import prepared
from reid_core.data.readers.celeb import CELEB, read_celeb
from reid_core.data.readers.celeb_light import CELEB_LIGHT, read_celeb_light
from reid_core.data.readers.counts import CountDifference, compare_counts, count_split
from reid_core.data.readers.csv_table import CSV_LAYOUT, read_csv
from reid_core.data.readers.deepchange import DEEPCHANGE, read_deepchange
from reid_core.data.readers.dukemtmc import DUKEMTMC, read_dukemtmc
from reid_core.data.readers.folder import FOLDER_LAYOUT, has_folder_layout, read_folder
from reid_core.data.readers.last import LAST, read_last
from reid_core.data.readers.listing import Listing
from reid_core.data.readers.llcm import LLCM, read_llcm
from reid_core.data.readers.ltcc import LTCC, read_ltcc
from reid_core.data.readers.market1501 import MARKET1501, read_market1501
from reid_core.data.readers.msmt17 import (
    MSMT17,
    MSMT17_TRAINVAL,
    read_msmt17,
    read_msmt17_trainval,
)
from reid_core.data.readers.prcc import PRCC, read_prcc
from reid_core.data.readers.regdb import REGDB, read_regdb
from reid_core.data.readers.sysu import SYSU, read_sysu
from reid_core.data.readers.vc_clothes import (
    VC_CLOTHES,
    VC_CLOTHES_CC,
    VC_CLOTHES_SC,
    read_vc_clothes,
    read_vc_clothes_cc,
    read_vc_clothes_sc,
)
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.errors import ConfigError, DatasetError, DatasetNotFoundError

__all__ = [
    "CSV_LAYOUT",
    "DATASET_NAMES",
    "FOLDER_LAYOUT",
    "READERS",
    "CountDifference",
    "DatasetInfo",
    "Reader",
    "Reading",
    "SplitCount",
    "count_split",
    "detect_datasets",
    "find_dataset",
    "load_dataset",
    "read_dataset",
]

logger = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class Reader:
    """A published data set and the function that reads its folder into splits.

    Attributes:
        info: What is known of it.
        read: The function.
        takes_arrays: Whether it heeds ``Listing.prefer_arrays``.
    """

    info: DatasetInfo
    read: Callable[[Listing], Mapping[str, Sequence[Sample]]]
    takes_arrays: bool = False


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        reader.info.name: reader
        for reader in (
            Reader(LTCC, read_ltcc),
            Reader(PRCC, read_prcc),
            Reader(LAST, read_last),
            Reader(VC_CLOTHES, read_vc_clothes),
            Reader(VC_CLOTHES_SC, read_vc_clothes_sc),
            Reader(VC_CLOTHES_CC, read_vc_clothes_cc),
            Reader(DEEPCHANGE, read_deepchange),
            Reader(CELEB, read_celeb),
            Reader(CELEB_LIGHT, read_celeb_light),
            Reader(prepared.CELEB_PREPARED, prepared.read_celeb_prepared),
            Reader(prepared.CELEB_LIGHT_PREPARED, prepared.read_celeb_light_prepared),
            Reader(prepared.PRCC_PREPARED, prepared.read_prcc_prepared),
            Reader(SYSU, read_sysu, takes_arrays=True),
            Reader(REGDB, read_regdb),
            Reader(LLCM, read_llcm),
            Reader(MARKET1501, read_market1501),
            Reader(DUKEMTMC, read_dukemtmc),
            Reader(MSMT17, read_msmt17),
            Reader(MSMT17_TRAINVAL, read_msmt17_trainval),
        )
    }
)

DATASET_NAMES: tuple[str, ...] = (*READERS, "folder", "csv")
"""Everything that ``load_dataset`` and ``--dataset`` accept."""

# What may be found in a folder unasked; the modes of VC-Clothes and of MSMT17 share one layout.
_LAYOUTS = (
    *(LTCC, PRCC, LAST, VC_CLOTHES, DEEPCHANGE, CELEB, CELEB_LIGHT, SYSU, REGDB, LLCM),
    *(MARKET1501, DUKEMTMC, MSMT17),
    *(prepared.CELEB_PREPARED, prepared.CELEB_LIGHT_PREPARED, prepared.PRCC_PREPARED),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A data set as read, with what is wrong with it.

    Attributes:
        dataset: The samples; misnamed files are left out.
        misnamed: Image files whose names carry no labels.
        differences: Figures that are not the published ones; empty for synthetic images.
    """

    dataset: ReIDDataset
    misnamed: tuple[Path, ...]
    differences: tuple[CountDifference, ...]


def load_dataset(
    name: str, root: str | Path, *, skip_misnamed: bool = False, prefer_arrays: bool = False
) -> ReIDDataset:
    """Read a data set.

    Args:
        name: One of ``DATASET_NAMES``.
        root: The data set's own folder or its parent, or the zip file in which its authors ship it
            (read in place); for ``folder`` the folder that holds the splits; for ``csv`` the table.
        skip_misnamed: Leave image files without labels in their names out (a note counts them)
            instead of refusing the data set.
        prefer_arrays: Take SYSU-MM01's training images from the official pre-processed arrays even
            where the image files are there.

    Returns:
        The data set. Its notes, which are also logged as warnings, say what differs from the
        published splits.

    Raises:
        ConfigError: When the name is unknown, or this data set has no arrays to prefer.
        DatasetNotFoundError: When the folder is not there, or is not this data set's.
        DatasetError: When a split is empty, files are misnamed, or a list or table is wrong.
    """
    reading = read_dataset(name, root, skip_misnamed=skip_misnamed, prefer_arrays=prefer_arrays)
    for note in reading.dataset.notes:
        logger.warning("%s: %s", name, note)
    return reading.dataset


def read_dataset(
    name: str, root: str | Path, *, skip_misnamed: bool = True, prefer_arrays: bool = False
) -> Reading:
    """Read a data set and report what is wrong with it instead of only noting it.

    Arguments and errors are those of ``load_dataset``; nothing is logged.
    """
    if name not in DATASET_NAMES:
        raise ConfigError(_unknown_name(name))
    if prefer_arrays and not (name in READERS and READERS[name].takes_arrays):
        known = ", ".join(name for name, reader in READERS.items() if reader.takes_arrays)
        raise ConfigError(f"{name} has no pre-processed arrays; only {known} has")
    root = Path(root).expanduser()
    if name == "csv":
        return Reading(dataset=read_csv(root), misnamed=(), differences=())
    if name == "folder":
        listing = Listing(root)
        dataset = read_folder(root, listing)
        differences: tuple[CountDifference, ...] = ()
    else:
        info = READERS[name].info
        listing = Listing(locate_dataset(root, info, _LAYOUTS), prefer_arrays=prefer_arrays)
        splits = READERS[name].read(listing)
        synthetic = archives.exists(listing.folder / SYNTHETIC_MARKER)
        differences = () if synthetic else compare_counts(info, splits)
        dataset = ReIDDataset(name=name, root=listing.folder, splits=splits, synthetic=synthetic)
    _refuse(dataset, listing, skip_misnamed)
    notes = [*dataset.notes, *listing.notes, *(item.sentence for item in differences)]
    if listing.misnamed:
        notes.append(f"misnamed image files left out: {len(listing.misnamed):,}")
    return Reading(
        dataset=replace(dataset, notes=tuple(notes)),
        misnamed=tuple(path for path, _ in listing.misnamed),
        differences=differences,
    )


def detect_datasets(root: str | Path) -> list[str]:
    """Return the names of the data sets found at ``root`` or directly below it.

    ``csv`` stands for a table, ``folder`` for folders of people in ``train``, ``query`` or
    ``gallery`` (only where no published layout fits). The modes of VC-Clothes count as one, as do
    those of MSMT17.
    """
    root = Path(root).expanduser()
    if root.is_file() and not archives.is_archive(root):
        return ["csv"] if root.suffix.lower() == ".csv" else []
    return find_layouts(root, _LAYOUTS) or (["folder"] if has_folder_layout(root) else [])


def find_dataset(root: str | Path) -> str:
    """Return the name of the one data set at ``root``, for commands without ``--dataset``.

    Raises:
        DatasetNotFoundError: When no layout is recognised there.
        ConfigError: When there are several.
    """
    # A damaged copy is recognised by its folder's name; its reader then says what is missing.
    found = detect_datasets(root) or find_named(Path(root).expanduser(), _LAYOUTS)
    if len(found) == 1:
        return found[0]
    place = Path(root).expanduser().absolute()
    if found:
        raise ConfigError(f"{place} holds {', '.join(found)}; choose one with --dataset NAME")
    if not place.exists():
        raise DatasetNotFoundError(f"there is no {place}; give the folder of a data set")
    if place.is_file() and not archives.is_archive(place):
        raise DatasetNotFoundError(
            f"{place} is a file, but no .csv table or .zip archive; give a folder or one of these"
        )
    folders = ", ".join(info.folder for info in _LAYOUTS)
    raise DatasetNotFoundError(
        f"no data set was recognised in {place}; {describe_folder(place)}."
        f"{_one_level_down(place)}\nKnown folders: {folders}. "
        "Name the data set with --dataset to hear what is missing; for your own images use "
        "--dataset folder or --dataset csv (see `reid-data list`)."
    )


def _one_level_down(place: Path) -> str:
    subfolders = [place / name for name in list_names(place) if name.endswith("/")]
    found = [(sub, name) for sub in subfolders for name in find_layouts(sub, _LAYOUTS)]
    if not found:
        return ""
    choices = "; ".join(f"{sub} holds {name}" for sub, name in found[:_SHOWN])
    return f"\nYou are one level too high: {choices}."


def _unknown_name(name: str) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", ""), DATASET_NAMES, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"data set {name!r} is unknown{hint}; known are {', '.join(DATASET_NAMES)}"


def _refuse(dataset: ReIDDataset, listing: Listing, skip_misnamed: bool) -> None:
    empty = [split for split, samples in dataset.splits.items() if not samples]
    if listing.misnamed and (empty or not skip_misnamed):
        raise DatasetError(_misnamed_message(listing))
    if empty:
        raise DatasetError(
            f"{dataset.name} in {dataset.root}: no images for {', '.join(empty)}; "
            "copy or extract the data set again"
        )


def _misnamed_message(listing: Listing) -> str:
    total = len(listing.misnamed)
    lines = [
        f"{total:,} image file{'s' if total > 1 else ''} in {listing.folder} whose names carry no "
        "labels:"
    ]
    for path, pattern in listing.misnamed[:_SHOWN]:
        relative = path.relative_to(listing.folder).as_posix()
        lines.append(f"  {relative}  (expected {pattern.shown})")
    if total > _SHOWN:
        lines.append("  ...")
    lines.append("Rename them, or move them out of the data set's folder.")
    return "\n".join(lines)
