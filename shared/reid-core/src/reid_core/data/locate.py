"""Find a data set's own folder below what the user named, or say why it is not there.

The folder that a user names may be the data set's own folder or the one that contains it. The
data set's own folder is recognised by what it holds, so it may have been renamed when it is named
directly. A zip file in which its authors ship it does as well as a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from reid_core.data import archives
from reid_core.data.layout import PREPARED_SUFFIX, SYNTHETIC_MARKER, DatasetInfo
from reid_core.errors import DatasetError, DatasetNotFoundError

__all__ = [
    "describe_folder",
    "find_layouts",
    "find_named",
    "has_layout",
    "list_names",
    "locate_dataset",
]

_ENTRIES_SHOWN = 8
_ENTRIES_PROBED = 200


def has_layout(folder: Path, info: DatasetInfo) -> bool:
    """Tell whether ``folder`` is the data set's own folder, as far as its entries show."""
    return not _absent(folder, info)


def locate_dataset(root: Path, info: DatasetInfo, known: Iterable[DatasetInfo] = ()) -> Path:
    """Return the data set's own folder, which may lie in an archive (see ``archives``).

    Args:
        root: The folder the user named: the data set's own folder or its parent; or an archive.
        info: The data set that is wanted.
        known: All data sets, for naming the one that is there instead.

    Raises:
        DatasetNotFoundError: Naming the folder searched, what was found there, what is missing, the
            expected tree, where to get the data, and the right folder where it is one level off.
    """
    candidates = []
    for folder in _candidates(root, info):
        if has_layout(folder, info):
            return folder
        candidates.append(folder)
    child = candidates[1] if len(candidates) > 1 else None
    raise DatasetNotFoundError(_not_found(root, child, info, known))


def find_layouts(root: Path, known: Iterable[DatasetInfo]) -> list[str]:
    """Return the names of the data sets that lie at ``root`` or directly below it.

    A folder counts only where the names of its files also look right, so that ``train``, ``query``
    and ``test`` folders of someone's own images are not taken for a published data set. Of data
    sets in one form, such as Celeb-reID and Celeb-reID-light, it is taken for the one that its
    marker says where it is synthetic, else its name, else the size of its gallery, else the first
    that is known.
    """
    known = tuple(known)
    found = []
    for info in known:
        # An archive that is still being copied must not hide what else there is.
        with suppress(DatasetError):
            folders = _candidates(root, info)
            if any(_is_recognised(folder, info, known) for folder in folders):
                found.append(info.name)
    return found


def find_named(root: Path, known: Iterable[DatasetInfo]) -> list[str]:
    """Return the names of the data sets whose folder's name is found, whatever is in the folder."""
    return [
        info.name
        for info in known
        if root.name in (info.folder, *info.other_folders) or len([*_candidates(root, info)]) > 1
    ]


def describe_folder(folder: Path) -> str:
    """Name the first entries of a folder, for error messages."""
    try:
        names = list_names(folder)
    except DatasetError:
        return "it cannot be listed"
    if not names:
        return "it is empty"
    shown = ", ".join(names[:_ENTRIES_SHOWN])
    more = f", ... ({len(names)} entries)" if len(names) > _ENTRIES_SHOWN else ""
    return f"found there: {shown}{more}"


def list_names(folder: Path) -> list[str]:
    """Return the sorted names of a folder's entries, folders with a trailing slash.

    Hidden entries (``.DS_Store``, ``._001.png`` and the like) are left out.

    Raises:
        DatasetError: When the folder cannot be listed.
    """
    try:
        return sorted(
            f"{entry.name}/" if entry.is_folder else entry.name
            for entry in archives.list_entries(folder)
            if not entry.name.startswith(".")
        )
    except OSError as error:
        raise DatasetError(
            f"cannot list the folder {folder}: {error.strerror}; check that it exists and that "
            "you may read it"
        ) from error


def _candidates(root: Path, info: DatasetInfo) -> Iterator[Path]:
    """Yield where the data set's own folder may be, likeliest first: ``root`` and below it.

    Archives come last and are not looked into before: where a folder is there, a damaged archive
    beside it, or one that asks for a password, does not matter.
    """
    if not _may_hold(root, info):
        return
    yield root
    yield from _children(root, info)
    for name in info.archives:
        archive = root / name
        if archives.is_archive(archive):
            yield archive
            yield from _children(archive, info)


def _may_hold(root: Path, info: DatasetInfo) -> bool:
    """Tell whether a path can be looked into: of an archive only where the data set comes so."""
    return bool(info.archives) or archives.split_member(root) is None


def _children(root: Path, info: DatasetInfo) -> list[Path]:
    """Return ``root``'s folders called like the data set; other capitals count if nothing else."""
    names = (info.folder, *info.other_folders)
    exact = [root / name for name in names if archives.is_folder(root / name)]
    if exact:
        return exact
    wanted = [name.lower() for name in names]
    alike = [folder for folder in _subfolders(root) if folder.name.lower() in wanted]
    return alike if len(alike) == 1 else []


def _is_recognised(folder: Path, info: DatasetInfo, known: Iterable[DatasetInfo]) -> bool:
    if not (has_layout(folder, info) and _probe(folder, info)):
        return False
    alike = [other for other in known if other.required == info.required and _probe(folder, other)]
    return len(alike) == 1 or info is _choose_alike(folder, alike)


def _choose_alike(folder: Path, alike: Sequence[DatasetInfo]) -> DatasetInfo:
    """Return which of several data sets in one form lies in a folder."""
    layout = _generated_as(folder)
    for info in alike:
        if layout == info.name.removesuffix(PREPARED_SUFFIX):
            return info
    name = folder.absolute().name.lower()
    for info in alike:
        if name in (own.lower() for own in (info.folder, *info.other_folders)):
            return info
    gallery = folder / alike[0].required[-1]
    try:
        num_images = len(archives.list_entries(gallery))
    except OSError:
        return alike[0]
    for info in alike:
        published = info.counts["gallery"].num_images or 0
        if abs(num_images - published) < published / 2:
            return info
    return alike[0]


def _generated_as(folder: Path) -> str | None:
    """Return the layout in which images were generated; None where they were not."""
    try:
        marker = json.loads(archives.read_file(folder / SYNTHETIC_MARKER))
    except (OSError, ValueError):
        return None
    layout = marker.get("layout") if isinstance(marker, dict) else None
    return layout if isinstance(layout, str) else None


def _probe(folder: Path, info: DatasetInfo) -> bool:
    below, pattern = info.probe
    try:
        entries = archives.list_entries(folder / below)
    except OSError:
        return False
    return any(re.match(pattern, entry.name) for entry in entries[:_ENTRIES_PROBED])


def _subfolders(folder: Path) -> list[Path]:
    try:
        entries = archives.list_entries(folder)
    except OSError:
        return []
    return sorted(folder / entry.name for entry in entries if entry.is_folder)


def _not_found(
    root: Path, child: Path | None, info: DatasetInfo, known: Iterable[DatasetInfo]
) -> str:
    tree = "\n".join(f"  {line}" for line in info.tree.splitlines())
    lines = [
        f"{info.title} was not found in {root.absolute()}",
        _searched(root, child, info),
        *_hints(root, info, known),
        f"Expected (give ROOT, or {info.folder} in it):",
        tree,
        f"Where to get it: {info.source}",
        "Without it, --data synthetic makes and uses a built-in miniature.",
    ]
    return "\n".join(line for line in lines if line)


def _searched(root: Path, child: Path | None, info: DatasetInfo) -> str:
    if not archives.exists(root):
        parent = next((folder for folder in root.absolute().parents if folder.is_dir()), None)
        nearest = (
            "" if parent is None else f" Above it, {parent} exists; {describe_folder(parent)}."
        )
        return f"The folder does not exist.{nearest}"
    if not _may_hold(root, info):
        return "That is a file; unpack it and give the folder that holds the data set."
    if not archives.is_folder(root):
        return "That is a file; give the folder that holds the data set."
    if child is not None:
        lacks = ", ".join(_absent(child, info))
        return f"{child.name}/ is there, but it lacks {lacks} ({describe_folder(child)})."
    absent = _absent(root, info)
    if len(absent) < len(info.required):
        return f"It lacks {', '.join(absent)}; {describe_folder(root)}."
    return f"Missing: {info.folder}/; {describe_folder(root)}."


def _absent(folder: Path, info: DatasetInfo) -> list[str]:
    return [
        entry
        for entry in info.required
        if not any(archives.exists(folder / choice) for choice in entry.split(" or "))
    ]


def _hints(root: Path, info: DatasetInfo, known: Iterable[DatasetInfo]) -> Sequence[str]:
    """Return sentences on where the data set is instead, if that can be seen nearby."""
    if not _may_hold(root, info) or not archives.is_folder(root):
        return ()
    hints = []
    known = tuple(known)
    absolute = root.absolute()
    above = next((up for up in islice(absolute.parents, 3) if has_layout(up, info)), None)
    if above is not None:
        hints.append(f"You are inside the data set (too low): give {above} instead.")
    for folder in _subfolders(root):
        inside = next((at for at in _candidates(folder, info) if has_layout(at, info)), None)
        if inside is not None and _is_recognised(inside, info, known):
            hints.append(f"You are one level too high: give {inside} instead.")
            break
    names = sorted(set(find_layouts(root, known)) - {info.name})
    if names:
        hints.append(f"What lies there looks like {' and '.join(names)}: choose it with --dataset.")
    return hints
