"""One training as a process: its output in a log, its memory measured, stopped when asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "Processes", "last_lines"]

_CHUNK = 1 << 16
_GRACE = 20.0  # seconds that an interrupted training has to leave
_MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: Exit status; negative for a signal.
        seconds: Wall time.
        peak_bytes: Largest resident memory of the process or of one that it started; None where
            the platform does not tell.
    """

    status: int
    seconds: float
    peak_bytes: int | None


class Processes:
    """The processes that run now, in any thread; all of them can be stopped at once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[int] = set()
        self._stopped_at: float | None = None
        self._killed = False

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called: nothing more is started."""
        return self._stopped_at is not None

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, echo: bool
    ) -> Ended | None:
        """Run a command to its end.

        Args:
            command: The command.
            env: Its whole environment.
            log: File that its output is added to.
            echo: Show the output, too.

        Returns:
            How it ended; None where it was not started, because everything stops.

        Raises:
            OSError: When it cannot be started.
        """
        start = time.monotonic()
        with log.open("ab") as file:
            with self._guard:
                if self.stopping:
                    return None
                # A session of its own: Ctrl-C reaches it through us alone, with all its children.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**env, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )
                self._running.add(process.pid)
            assert process.stdout is not None
            while chunk := os.read(process.stdout.fileno(), _CHUNK):
                file.write(chunk)
                file.flush()
                if echo:
                    _show(chunk)
            process.stdout.close()
            status, peak = self._wait(process)
        return Ended(status, time.monotonic() - start, peak)

    def stop(self) -> None:
        """Interrupt everything that runs; called again, it ends it at once."""
        with self._guard:
            again = self.stopping
            if not again:
                self._stopped_at = time.monotonic()
            self._signal(signal.SIGTERM if again else signal.SIGINT)

    def press(self) -> None:
        """End what was interrupted and has not left in time; called now and then."""
        with self._guard:
            late = self._stopped_at is not None and time.monotonic() - self._stopped_at > _GRACE
            if late and not self._killed:
                self._killed = True
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        for pid in self._running:
            with suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    os.kill(pid, signal.SIGTERM)
                else:
                    os.killpg(pid, number)

    def _wait(self, process: subprocess.Popen[bytes]) -> tuple[int, int | None]:
        """Wait for the process, and forget it before its number can mean another one."""
        if not hasattr(os, "wait4"):
            status = process.wait()
            with self._guard:
                self._running.discard(process.pid)
            return status, None
        if hasattr(os, "waitid"):  # not on every macOS, where the output's end has to do
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._guard:
            self._running.discard(process.pid)
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        return process.returncode, usage.ru_maxrss * _MEMORY_UNIT


def last_lines(log: Path, start: int, count: int = 15) -> list[str]:
    """Return the last lines that are not empty of a log, from byte ``start``."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _CHUNK))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]


def _show(chunk: bytes) -> None:
    with suppress(OSError, ValueError):  # a closed terminal must not end the training
        sys.stdout.flush()
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
