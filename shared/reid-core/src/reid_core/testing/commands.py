"""Running installed commands from tests, as users do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["installed", "run_installed"]

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
