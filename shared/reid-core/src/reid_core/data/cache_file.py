"""The file behind a mapped image cache: equal-sized records between a header and a description.

Layout: 64 bytes of header (magic, version, number of records, bytes per record, length of the
description), the records, the description (JSON: content key, skipped files). The file gets its
name only when it is complete, so a file under its final name is whole; lengths and key are checked
all the same when it is opened.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from reid_core.data.images import Pixels
from reid_core.errors import OutputError
from reid_core.files import atomic_file, is_leftover, output_error

__all__ = ["CacheFile", "MappedRecords", "Skipped"]

_log = logging.getLogger(__name__)

Skipped = tuple[int, str]  # position in the list asked for, and why the file could not be read

_MAGIC = b"REIDIMGS"
_VERSION = 1
_HEADER = struct.Struct("<8sIQQQ")
_HEADER_BYTES = 64
# A description holds one short line per skipped file; the reserve is for that and for others who
# write to the same disk meanwhile.
_RESERVE_BYTES = 16 * 2**20
_ADVICE = (
    "Free some space, choose a folder on another disk with --data.cache-dir, or keep the images in "
    "memory with --data.cache memory (--cache-dir and --cache where nothing is trained)."
)
# A writer touches its temporary file many times a second; after an hour it is dead.
_ABANDONED_SECONDS = 3600.0


class MappedRecords(NamedTuple):
    """Contents of a cache file.

    Attributes:
        records: (N, record_bytes) uint8, mapped read-only.
        skipped: Positions without a record, ascending, and why.
    """

    records: Pixels
    skipped: list[Skipped]


class CacheFile:
    """One cache file.

    Args:
        path: Where it is or will be.
        key: Hash of everything that its contents depend on.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def open(self) -> MappedRecords | None:
        """Map the records; None where the file is absent, damaged or made from something else."""
        try:
            with self.path.open("rb") as file:
                return self._map(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            _log.warning("the image cache %s is damaged (%s); building it again", self.path, error)
            return None

    def write(
        self,
        make_records: Callable[[], Generator[Pixels | Skipped, None, None]],
        *,
        num_records: int,
        record_bytes: int,
    ) -> MappedRecords:
        """Write the file and map it.

        Args:
            make_records: Gives a record, or a skipped position, for each image in order. What it
                raises is passed on, and nothing is left behind.
            num_records: Largest number of records; room on the disk is checked for these.
            record_bytes: Bytes of a record.

        Raises:
            OutputError: No room, or no permission.
        """
        needed = num_records * record_bytes
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            if shutil.disk_usage(self.path.parent).free < needed + _RESERVE_BYTES:
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise output_error(self.path, error, needed=needed, advice=_ADVICE) from error
        try:
            with (
                atomic_file(self.path, needed=needed, advice=_ADVICE) as file,
                closing(make_records()) as records,
            ):
                self._write(file, records, record_bytes)
        except OutputError:
            # Windows refuses to replace a file that another process has mapped; then that process
            # built the same cache a moment earlier.
            mapped = self.open()
            if mapped is None:
                raise
            return mapped
        mapped = self.open()
        if mapped is None:
            raise OutputError(
                f"the image cache {self.path} was damaged while it was written; check the disk."
            )
        return mapped

    def _map(self, file: BinaryIO) -> MappedRecords:
        header = file.read(_HEADER_BYTES)[: _HEADER.size]
        magic, version, count, record_bytes, length = _HEADER.unpack(header)
        if magic != _MAGIC or version != _VERSION:
            raise ValueError("no cache header")
        end = _HEADER_BYTES + count * record_bytes
        size = os.fstat(file.fileno()).st_size
        if size != end + length:
            raise ValueError(f"{size:,} bytes instead of {end + length:,}")
        file.seek(end)
        text = file.read(length)
        description = json.loads(text)
        if description["key"] != self.key:
            raise ValueError("made from other images")
        shape = (count, record_bytes)
        mapped = np.memmap(file, np.uint8, mode="r", offset=_HEADER_BYTES, shape=shape)
        skipped = [(int(position), str(why)) for position, why in description["skipped"]]
        return MappedRecords(np.asarray(mapped).view(), skipped)

    def _write(
        self, file: BinaryIO, results: Iterable[Pixels | Skipped], record_bytes: int
    ) -> None:
        file.write(bytes(_HEADER_BYTES))
        count = 0
        skipped: list[Skipped] = []
        for result in results:
            if isinstance(result, tuple):
                skipped.append(result)
            else:
                file.write(result.data)
                count += 1
        text = json.dumps({"key": self.key, "skipped": skipped}).encode()
        file.write(text)
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, _VERSION, count, record_bytes, len(text)))

    def _remove_abandoned(self) -> None:
        now = time.time()
        for file in filter(is_leftover, self.path.parent.iterdir()):
            with suppress(FileNotFoundError):  # another process may clean up as well
                if now - file.stat().st_mtime > _ABANDONED_SECONDS:
                    file.unlink()
