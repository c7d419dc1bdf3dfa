"""Where a training ran: state of the sources, versions, hardware; nothing that names a person."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["describe_hardware", "describe_sources", "describe_versions", "num_cpus"]

_ROOT = Path(__file__).parents[2]

# Runs in a method's own environment, without importing anything heavy.
_PROBE = """
import json, platform
from importlib.metadata import distributions
wanted = {"torch", "torchvision", "numpy", "scipy", "pillow", "scikit-learn"}
found = {"python": platform.python_version()}
for item in distributions():
    name = (item.metadata["Name"] or "").lower()
    if name in wanted or name.startswith("reid-"):
        found.setdefault(name, item.version)
print(json.dumps(found, sort_keys=True))
"""


def describe_sources() -> dict[str, Any]:
    """Return ``commit`` and ``dirty`` (files changed since, less results); None where unknown."""
    commit = _output(["git", "-C", str(_ROOT), "rev-parse", "HEAD"])
    changed = _output(
        ["git", "-C", str(_ROOT), "status", "--porcelain", "--", ".", ":!benchmarks/results"]
    )
    return {
        "commit": commit.strip() if commit else None,
        "dirty": None if changed is None else bool(changed.strip()),
    }


@functools.cache
def describe_versions(python: str) -> Mapping[str, str]:
    """Return name to version of Python and of the packages that matter, in an environment.

    Args:
        python: The environment's interpreter.
    """
    found = _output([python, "-c", _PROBE])
    return json.loads(found) if found else {}


def describe_hardware(device: str) -> dict[str, Any]:
    """Return CPU model, cores, memory in bytes, name of the GPU and the system.

    Args:
        device: ``cpu``, or the number of the GPU that is used.
    """
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": num_cpus(),
        "memory_bytes": _memory(),
        "gpus": [] if device == "cpu" else _gpus(device),
    }


def num_cpus() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    brand = _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    return (brand or "").strip() or platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus(device: str) -> list[str]:
    """Return name and memory of one GPU; nothing where the driver does not tell."""
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader"]
    found = []
    for line in (_output(query) or "").splitlines():
        index, *name, memory = (item.strip() for item in line.split(","))
        if index == device:
            found.append(f"{', '.join(name)} ({memory})")
    return found


def _output(command: Sequence[str]) -> str | None:
    """Return what a command prints; None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
