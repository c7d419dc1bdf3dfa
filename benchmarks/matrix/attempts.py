"""What a cell's journal remembers: every attempt at its training, finished or not."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from typing import Any

from matrix.cells import Cell
from matrix.journal import Journal
from matrix.processes import Ended

__all__ = ["Attempts", "now"]


def now() -> str:
    """Return the time in UTC, to the second."""
    return _stamp(datetime.datetime.now(datetime.UTC))


class Attempts:
    """The attempts at one cell; no other process works on the cell while this is open.

    Use in a ``with``.

    Args:
        cell: The cell.

    Raises:
        JournalError: When another process works on it.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._journal = Journal(cell.journal, patience=1.0)
        self._events = self._journal.read()

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.__exit__(None, None, None)

    @property
    def id(self) -> str:
        """What tells this run from every other one; the ledger has it once."""
        if not self._events:
            # A run that somebody made without us.
            self._add({"event": "found", "id": secrets.token_hex(8), "time": now()})
        return str(self._events[0]["id"])

    @property
    def is_finished(self) -> bool:
        """Whether the training is done: all its files are there, and nothing failed after them."""
        ends = [event for event in self._events if event["event"] == "end"]
        return self._cell.is_whole and (not ends or ends[-1]["status"] in (0, None))

    def start(self, surroundings: Mapping[str, Any]) -> None:
        """Note that an attempt begins.

        Args:
            surroundings: Command, sources, versions and hardware.
        """
        self._close_killed()
        ended_well = any(event.get("status") == 0 for event in self._events)
        if ended_well and not self._cell.is_resumable:
            # The run folder was removed: what begins now is another run.
            self._journal.clear()
            self._events.clear()
        known = self._events[0]["id"] if self._events else secrets.token_hex(8)
        self._add({"event": "start", "id": known, "time": now(), **surroundings})

    def end(self, ended: Ended) -> None:
        """Note how it ended."""
        self._add(
            {
                "event": "end",
                "time": now(),
                "seconds": round(ended.seconds, 2),
                "peak_bytes": ended.peak_bytes,
                "status": ended.status,
            }
        )

    def totals(self) -> dict[str, Any]:
        """Return times and memory over all attempts, and the surroundings of the last one."""
        self._close_killed()
        starts = [event for event in self._events if event["event"] == "start"]
        ends = [event for event in self._events if event["event"] == "end"]
        peaks = [event["peak_bytes"] for event in ends if event["peak_bytes"] is not None]
        last = starts[-1] if starts else {}
        return {
            "command": last.get("command"),
            "started": starts[0]["time"] if starts else None,
            "ended": ends[-1]["time"] if ends else None,
            "attempts": len(starts),
            "wall_seconds": round(sum(event["seconds"] for event in ends), 2) if ends else None,
            "peak_memory_bytes": max(peaks, default=None),
            **{key: last.get(key) for key in ("commit", "dirty", "versions", "hardware", "device")},
        }

    def _close_killed(self) -> None:
        """End an attempt that was killed together with the benchmark: its log says how long."""
        if not self._events or self._events[-1]["event"] != "start":
            return
        begin = datetime.datetime.fromisoformat(self._events[-1]["time"])
        end = begin
        if self._cell.log.exists():
            written = self._cell.log.stat().st_mtime
            end = max(begin, datetime.datetime.fromtimestamp(written, datetime.UTC))
        self._add(
            {
                "event": "end",
                "time": _stamp(end),
                "seconds": (end - begin).total_seconds(),
                "peak_bytes": None,
                "status": None,
            }
        )

    def _add(self, event: dict[str, Any]) -> None:
        self._journal.append(event)
        self._events.append(event)


def _stamp(time: datetime.datetime) -> str:
    return time.replace(microsecond=0).isoformat()
