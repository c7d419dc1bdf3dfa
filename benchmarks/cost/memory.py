"""Peak memory of a part of this process's work."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

SAMPLING_SECONDS = 0.01
STATUS = Path("/proc/self/status")


class PeakMemory:
    """Context manager: the peak of the process's (or the GPU's) memory beyond that at entry.

    Attributes:
        memory: Bytes; None where the system does not tell.
        anonymous: Bytes without pages of files, sampled; None where the system does not tell.
        resident: Bytes of the largest resident set, what was there at entry included.
    """

    def __init__(self, device: torch.device) -> None:
        self.memory: int | None = None
        self.anonymous: int | None = None
        self.resident: int | None = None
        self._device = device
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._peaks = {"VmRSS": 0, "RssAnon": 0}

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._allocated = torch.cuda.memory_allocated()
        self._before = _status()
        self._marks_peak = _reset_peak()
        self._sampler.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._sampler.join()
        after = _status()
        for name in self._peaks:
            self._peaks[name] = max(self._peaks[name], after.get(name, 0))
        if "VmRSS" in self._before:
            self.resident = after["VmHWM"] if self._marks_peak else self._peaks["VmRSS"]
            self.memory = self.resident - self._before["VmRSS"]
        if "RssAnon" in self._before:
            self.anonymous = self._peaks["RssAnon"] - self._before["RssAnon"]
        if self._device.type == "cuda":
            self.memory = torch.cuda.max_memory_allocated() - self._allocated

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLING_SECONDS):
            now = _status()
            for name in self._peaks:
                self._peaks[name] = max(self._peaks[name], now.get(name, 0))


def _status() -> dict[str, int]:
    """Return the memory figures of this process in bytes; empty where the system has no /proc."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {field[0].rstrip(":"): 1024 * int(field[1]) for field in fields}


def _reset_peak() -> bool:
    """Set the mark of the largest resident set back to the present one, where that is possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
