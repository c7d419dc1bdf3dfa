"""Data sets inside the zip files in which their authors ship them, read in place.

A file in an archive has the path ``<archive>.zip/<its path in there>``: unique, sortable and
understood by every function below like the path of any other file. Nothing is unpacked: an image is
found by its place in the archive, which is looked up once, and read from there.
"""

from __future__ import annotations

import os
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from reid_core.errors import DatasetError

__all__ = [
    "Entry",
    "exists",
    "is_archive",
    "is_folder",
    "list_entries",
    "read_file",
    "read_member",
    "split_member",
    "stamp",
]

_SUFFIX = ".zip"

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1


class Entry(NamedTuple):
    """A file or folder in a folder."""

    name: str
    is_folder: bool


class _Member(NamedTuple):
    """Where the contents of a file are: bytes from the start of the archive."""

    header: int
    packed_size: int
    size: int
    method: int
    checksum: int


class _Index(NamedTuple):
    members: Mapping[str, _Member]
    folders: Mapping[str, Mapping[str, Entry]]


def is_archive(path: Path) -> bool:
    """Tell whether a path is that of an archive on disk."""
    return path.suffix.lower() == _SUFFIX and path.is_file()


def split_member(path: Path) -> tuple[Path, str] | None:
    """Return the archive and the path in it (empty for its top) that a path stands for.

    Returns:
        None for a path that leads through no archive.
    """
    # Most paths have no such part, and are not worth a look at the disk.
    if _SUFFIX not in os.fspath(path).lower():
        return None
    for folder in (path, *path.parents):
        if is_archive(folder):
            inner = path.relative_to(folder).as_posix()
            return folder, "" if inner == "." else inner
    return None


def exists(path: Path) -> bool:
    """Tell whether a file or folder is there; no, where it cannot be seen."""
    member = split_member(path)
    if member is None:
        # Unlike Path.exists, takes a folder without permission for absent.
        return os.path.exists(path)
    archive, inner = member
    if not inner:
        return True
    index = _open(archive)
    return inner in index.members or inner in index.folders


def is_folder(path: Path) -> bool:
    """Tell whether a path is that of a folder, or of an archive as a whole."""
    member = split_member(path)
    return path.is_dir() if member is None else member[1] in _open(member[0]).folders


def list_entries(path: Path) -> list[Entry]:
    """List a folder in any order.

    Raises:
        OSError: It cannot be listed.
        DatasetError: The archive is damaged.
    """
    member = split_member(path)
    if member is None:
        with os.scandir(path) as entries:
            return [Entry(entry.name, entry.is_dir()) for entry in entries]
    archive, inner = member
    folders = _open(archive).folders
    if inner not in folders:
        raise FileNotFoundError(2, "No such folder in the archive", str(path))
    return list(folders[inner].values())


def stamp(path: Path) -> tuple[int, int]:
    """Return the size of a file in bytes and when it was changed, ns.

    A file in an archive has the time of the archive.

    Raises:
        OSError: There is no such file.
    """
    member = split_member(path)
    if member is None or not member[1]:
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    archive, inner = member
    found = _open(archive).members.get(inner)
    if found is None:
        raise FileNotFoundError(2, "No such file in the archive", str(path))
    return found.size, archive.stat().st_mtime_ns


def read_file(path: Path) -> bytes:
    """Return the contents of a file.

    Raises:
        OSError: It cannot be read.
        DatasetError: It lies in an archive that is damaged.
    """
    member = split_member(path)
    return path.read_bytes() if member is None else read_member(*member)


def read_member(archive: Path, inner: str) -> bytes:
    """Return the contents of a file in an archive. Threads and processes may read at one time.

    Raises:
        FileNotFoundError: There is no such file in it.
        DatasetError: The archive is damaged, or packed in a way that is not supported.
    """
    member = _open(archive).members.get(inner)
    if member is None:
        raise FileNotFoundError(2, "No such file in the archive", f"{archive}/{inner}")
    # Opened each time: a shared file would have one position for all threads and forked processes.
    with archive.open("rb") as file:
        file.seek(member.header)
        start = file.read(_LOCAL_HEADER.size)
        if len(start) < _LOCAL_HEADER.size or not start.startswith(_SIGNATURE):
            raise DatasetError(f"{archive} is damaged at {inner}; copy the archive again")
        name_length, extra_length = _LOCAL_HEADER.unpack(start)[-2:]
        file.seek(name_length + extra_length, os.SEEK_CUR)
        packed = file.read(member.packed_size)
    try:
        content = packed
        if member.method != zipfile.ZIP_STORED:  # no further than the size that it should have
            content = zlib.decompressobj(-15).decompress(packed, member.size + 1)
    except zlib.error as error:
        raise DatasetError(
            f"{archive} is damaged at {inner} ({error}); copy the archive again"
        ) from error
    if zlib.crc32(content) != member.checksum:
        raise DatasetError(f"{archive} is damaged at {inner} (checksum); copy the archive again")
    return content


def _open(archive: Path) -> _Index:
    status = archive.stat()
    return _read_index(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_index(archive: Path, size: int, changed: int) -> _Index:
    """Read the directory of an archive; size and time of change tell a replaced one from it."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetError(
            f"cannot read the archive {archive}: {error}; download or copy it again"
        ) from error
    members: dict[str, _Member] = {}
    folders: dict[str, dict[str, Entry]] = {"": {}}
    for info in infos:
        stored = info.filename.replace("\\", "/")
        # Some programs put "./" in front of all names; no name leads out of the archive.
        name = posixpath.normpath("/" + stored.lstrip("/"))[1:]
        if stored.endswith("/"):
            _add_folder(folders, name)
            continue
        if info.flag_bits & _ENCRYPTED:
            raise DatasetError(
                f"{archive} asks for a password; unpack it and give the folder instead"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DatasetError(
                f"{archive} is packed by method {info.compress_type}, which is not read in place; "
                "unpack it and give the folder instead"
            )
        members[name] = _Member(
            info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
        )
        above, _, own = name.rpartition("/")
        _add_folder(folders, above)
        folders[above][own] = Entry(own, is_folder=False)
    return _Index(members, folders)


def _add_folder(folders: dict[str, dict[str, Entry]], name: str) -> None:
    """Add a folder and those above it, which need no entries of their own in an archive."""
    if name in folders:
        return
    above, _, own = name.rpartition("/")
    _add_folder(folders, above)
    folders[name] = {}
    folders[above][own] = Entry(own, is_folder=True)
