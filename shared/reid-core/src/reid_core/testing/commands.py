"""Running installed commands from tests, as users do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

__all__ = [
    "call_installed",
    "installed",
    "kill_when",
    "modules_of_help",
    "run_installed",
    "start_installed",
    "torchrun",
]

_SECONDS = 500


def installed(name: str) -> str:
    """Return the path of a command that is installed beside this Python.

    Raises:
        FileNotFoundError: When it is not.
    """
    found = shutil.which(name, path=os.fspath(Path(sys.executable).parent))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed beside {sys.executable}")
    return found


def run_installed(
    name: str,
    *args: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run an installed command to its end.

    Args:
        name: The command.
        *args: Its arguments; anything with a text form.
        cwd: Working folder.
        env: Variables beside those of this process.
        check: Fail when the command fails.

    Returns:
        The finished process with its output as text.

    Raises:
        AssertionError: When it fails, with all of its output.
    """
    path = os.pathsep.join([os.fspath(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [installed(name), *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if check and done.returncode:
        raise AssertionError(
            f"{name} {' '.join(map(str, args))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def call_installed(name: str, *args: object) -> object:
    """Call what an installed command calls, inside this process; return its status.

    Args:
        name: The command.
        *args: Its arguments; anything with a text form.

    Raises:
        KeyError: No package installs a command of this name.
        AssertionError: The function returns instead of ending the process.
    """
    main = entry_points(group="console_scripts")[name].load()
    try:
        main([str(arg) for arg in args])
    except SystemExit as ending:
        return ending.code
    raise AssertionError(f"{name} returned instead of ending with a status")


def torchrun(*args: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run an installed command in two processes that work together, on the CPU.

    Args:
        *args: The command and its arguments.
        cwd: As in ``run_installed``.
        check: As in ``run_installed``.

    Returns:
        ``torchrun`` itself, finished, with all output as text.

    Raises:
        AssertionError: As ``run_installed``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # One thread each: two processes with two threads each would fight over two cores.
    return run_installed(
        "torchrun",
        *("--no-python", "--nproc-per-node", 2, "--master-port", port),
        *args,
        cwd=cwd,
        env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=check,
    )


def start_installed(name: str, *args: object, cwd: Path) -> subprocess.Popen[bytes]:
    """Start an installed command and return at once; what it prints is thrown away."""
    return subprocess.Popen(
        [installed(name), *map(str, args)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(
    process: subprocess.Popen[bytes], condition: Callable[[], bool], seconds: float = 240
) -> bool:
    """Kill a process (SIGKILL, POSIX only) as soon as a condition holds.

    Args:
        process: From ``start_installed``.
        condition: Asked every millisecond.
        seconds: How long to wait for it.

    Returns:
        Whether the process was still running then.

    Raises:
        AssertionError: The condition does not hold in time.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < end, "the moment to kill never came"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def modules_of_help(name: str, *, cwd: Path) -> set[str]:
    """Return the names of all modules that an installed command imports for ``--help``.

    Raises:
        AssertionError: It fails, or prints no usage.
    """
    done = run_installed(name, "--help", cwd=cwd, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "usage:" in done.stdout, done.stdout
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
