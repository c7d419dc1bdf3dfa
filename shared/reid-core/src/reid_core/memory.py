"""How much memory there is, and whether work fits in it: said before it starts. Imports no torch.

What is counted, and what a limit means, is the resident memory of a process (its resident set size)
but for the pages of mapped data files, such as image caches and features in .npy files: those are
the operating system's, which takes them back when memory runs short. Interpreter and libraries
count, as measured. Memory of a GPU does not. With several processes the limit is that of each.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reid_core.errors import ConfigError, MemoryLimitError

__all__ = ["MemoryPart", "MemoryPlan", "available_memory", "parse_size", "resident_memory"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

# Where a platform does not tell its figures, a small machine and a usual interpreter are assumed.
_ASSUMED_MACHINE = 8 * 2**30
_ASSUMED_RESIDENT = 1024 * 2**20

# What no part names: modules and pages of libraries that are loaded later, stacks of threads,
# blocks that were freed and are kept for the next use, labels, images being decoded.
_RESERVE_BYTES = 160 * 2**20

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def parse_size(text: str) -> int:
    """Return the bytes that a text means.

    Args:
        text: A number and a unit: ``8GB``, ``512 MB``, ``1.5G`` (powers of 1000), ``4GiB``,
            ``800Mi`` (powers of 1024), or a number of bytes. Upper and lower case are the same.

    Raises:
        ConfigError: When it is none of these, or 0.
    """
    match = _SIZE.fullmatch(text)
    number, prefix, binary = match.groups() if match else ("0", None, None)
    num_bytes = int(float(number) * (1024 if binary else 1000) ** _POWERS[(prefix or "").lower()])
    if num_bytes < 1:
        raise ConfigError(
            f"{text!r} is no size of memory; write for example 8GB, 512MB, 4GiB, or the bytes"
        )
    return num_bytes


def available_memory() -> int:
    """Return the bytes that this process can have at most.

    The smallest of the machine's memory, the limits of the control groups that it is in
    (containers, batch jobs), and its own limits of address space and data (``ulimit -v``,
    ``ulimit -d``). What other processes hold is not subtracted.
    """
    return min([_machine_memory(), *_group_limits(), *_process_limits()])


def resident_memory() -> int | None:
    """Return the resident bytes of this process; None where they cannot be known.

    Of macOS this is the largest size so far.
    """
    if sys.platform == "win32":
        return _working_set()
    with suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


@dataclass(frozen=True)
class MemoryPart:
    """Something that takes memory.

    Attributes:
        what: In words, e.g. ``features of query (493 x 4096)``.
        num_bytes: About how much.
        phase: Part of the work that needs it, e.g. ``while embedding``; empty for all the time.
        remedy: What to do to need less, e.g. ``a smaller --batch-size``.
    """

    what: str
    num_bytes: int
    phase: str = ""
    remedy: str = ""


class MemoryPlan:
    """What a process is going to hold, added up before it does.

    ::

        plan = MemoryPlan("4GB")  # what is resident already is the first part
        plan.add("features of the gallery", 4 * num_gallery * dim)
        plan.add("re-ranking", rerank_bytes, phase="while ranking", remedy="leave out --rerank")
        plan.require("evaluation")  # MemoryLimitError, with every part and its figure

    Parts of different phases are not there at the same time: the largest phase counts.

    Args:
        limit: What ``--memory-limit`` says, e.g. ``8GB``; None (or empty) for no limit. Then, and
            where the limit is higher, the memory of the machine is the bound.
        processes: Processes like this one on the machine, which share its memory.
        reserve: Bytes for what no part names; the default suits commands that import torch.

    Attributes:
        allowed: Bytes that this process may have.
        parts: What was added so far.

    Raises:
        ConfigError: When the limit is no size.
    """

    def __init__(
        self, limit: str | None = None, *, processes: int = 1, reserve: int = _RESERVE_BYTES
    ) -> None:
        machine = available_memory() // processes
        self._limit = parse_size(limit) if limit else None
        self.allowed = machine if self._limit is None else min(machine, self._limit)
        self.parts: list[MemoryPart] = []
        resident = resident_memory()
        if resident is None:
            self.add("Python, its libraries and what is loaded (assumed)", _ASSUMED_RESIDENT)
        else:
            self.add("Python, its libraries and what is loaded (measured)", resident)
        self.add("reserve for all that is not listed", reserve)

    def add(self, what: str, num_bytes: int, *, phase: str = "", remedy: str = "") -> None:
        """Add a part; see ``MemoryPart``. Nothing is checked before ``require``."""
        self.parts.append(MemoryPart(what, num_bytes, phase, remedy))

    @property
    def total(self) -> int:
        """Bytes of the parts that are always there and of the largest phase."""
        phases = {part.phase for part in self.parts}
        return max(sum(part.num_bytes for part in self._during(phase)) for phase in phases)

    @property
    def room(self) -> int:
        """Bytes that are left all the time; negative where there are too many parts already."""
        return self.allowed - self.total

    def room_during(self, phase: str) -> int:
        """Return the bytes that are left in one phase."""
        return self.allowed - sum(part.num_bytes for part in self._during(phase))

    def require(self, work: str) -> None:
        """Refuse what does not fit.

        Args:
            work: What the memory is for, as the subject of the message, e.g. ``evaluation``.

        Raises:
            MemoryLimitError: With the parts, their figures, the bound and what would help.
        """
        if self.room >= 0:
            return
        bound = "--memory-limit allows" if self._is_limited else "this process can have"
        lines = [
            f"{work} needs about {_megabytes(self.total)} of memory, but {bound} "
            f"{_megabytes(self.allowed)}:"
        ]
        for phase in dict.fromkeys(["", *(part.phase for part in self.parts)]):
            lines += [f"  {phase}:"] if phase else []
            parts = [part for part in self.parts if part.phase == phase]
            lines += [f"  {_megabytes(part.num_bytes):>12}  {part.what}" for part in parts]
        raise MemoryLimitError("\n".join([*lines, f"What helps: {'; '.join(self._remedies())}."]))

    @property
    def _is_limited(self) -> bool:
        """Whether the bound is the limit that was asked for, not the machine."""
        return self._limit is not None and self.allowed == self._limit

    def _during(self, phase: str) -> list[MemoryPart]:
        return [part for part in self.parts if part.phase in ("", phase)]

    def _remedies(self) -> list[str]:
        """Return what helps, what concerns the largest part first."""
        guilty = [part for part in self.parts if self.room_during(part.phase) < 0 or not part.phase]
        guilty.sort(key=lambda part: -part.num_bytes)
        found = dict.fromkeys(part.remedy for part in guilty if part.remedy)
        return [
            *found,
            "a higher --memory-limit" if self._is_limited else "a machine with more memory",
        ]


def _megabytes(num_bytes: int) -> str:
    return f"{-(-num_bytes // 10**6):,} MB"


def _machine_memory() -> int:
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return _ASSUMED_MACHINE


def _group_limits() -> Iterator[int]:
    """Yield the limits of this process's control groups and the groups above, version 1 and 2."""
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folder, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # A container sees its own group at the top, whatever the name of its group is outside.
        for part in ("", *filter(None, group.split("/"))):
            folder = folder / part
            with suppress(OSError, ValueError):  # not mounted here, or it says "max"
                yield int((folder / name).read_text(encoding="ascii"))


def _process_limits() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("load", wintypes.DWORD),
            *((name, ctypes.c_uint64) for name in ("physical", "free")),
            *((f"other_{number}", ctypes.c_uint64) for number in range(5)),
        )

    class _ProcessMemory(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("faults", wintypes.DWORD),
            ("peak", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            *((f"other_{number}", ctypes.c_size_t) for number in range(6)),
        )

    def _windows_memory() -> int:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return _ASSUMED_MACHINE
        return int(status.physical)

    def _working_set() -> int | None:
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        get = kernel.K32GetProcessMemoryInfo
        get.argtypes = (wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD)
        counters = _ProcessMemory(length=ctypes.sizeof(_ProcessMemory))
        if not get(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.length):
            return None
        return int(counters.working_set)
