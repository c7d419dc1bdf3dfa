"""Fixtures shared by the unit tests."""

from __future__ import annotations

import logging
import multiprocessing
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def networks() -> SimpleNamespace:
    """The classes of ``tiny_networks.py``."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_networks.py"))))


@pytest.fixture
def own_loggers() -> Iterator[None]:
    """Let the console logging of a command end with the test: caplog sees nothing beside it."""
    loggers = [logging.getLogger(name) for name in ("reid_core", "reid_toy")]
    before = [(item.handlers, item.level, item.propagate) for item in loggers]
    yield
    for item, (handlers, level, propagate) in zip(loggers, before, strict=True):
        item.handlers, item.propagate = handlers, propagate
        item.setLevel(level)


@pytest.fixture(scope="session")
def start_script() -> Callable[..., BaseProcess]:
    """Start a script of this folder in a new process, with its global ``ARGS`` set.

    Where the system can fork, the processes come from one that has torch loaded already.
    """
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(
            ["reid_core.engine", "torch._dynamo", "torch.utils.tensorboard.writer"]
        )

    def start(script: Path, **args: object) -> BaseProcess:
        process = context.Process(
            target=runpy.run_path, args=(str(script), {"ARGS": args}, "__main__"), daemon=True
        )
        process.start()
        return process

    return start


@pytest.fixture
def start_pair(start_group) -> Callable[..., list[int]]:
    """Run a script in two connected processes; see ``start_group``."""
    return partial(start_group, 2)


@pytest.fixture
def start_group(start_script) -> Callable[..., list[int]]:
    """Run a script in connected processes, as torchrun would; return their exit codes.

    ``only`` maps a rank to arguments that only it gets.
    """

    def start(
        count: int, script: Path, *, only: dict[int, dict] | None = None, **args: object
    ) -> list[int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        group = []
        for rank in range(count):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            own = (only or {}).get(rank, {})
            group.append(start_script(script, environment=environment, **args, **own))
        for process in group:
            process.join(120)
        return [process.exitcode for process in group]

    return start
