"""Pytest plugin: golden numbers, skipping of device tests, and commands run in this process.

Loaded by the workspace's pytest settings (``-p reid_core.testing.plugin``), so that the options
exist whichever folder the tests are started for. No test touches the user's cache folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from reid_core.testing.commands import call_installed
from reid_core.testing.golden import GoldenSet

__all__ = ["golden", "make_data", "own_cache", "refuses", "run"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options that choose the golden numbers."""
    group = parser.getgroup("golden", "numbers made by the official implementations")
    group.addoption(
        "--golden-root",
        type=Path,
        default=None,
        help="folder with <method>/<set>/...; default: the copy in the package's tests",
    )
    group.addoption("--golden-set", default="public", help="name of the set (default: public)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is no CUDA device, saying so."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in gpu_items:
        item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    """The golden numbers of the method whose tests ask.

    The method is the folder below ``packages``, or ``GOLDEN_METHOD`` of the test module.
    """
    path = request.path
    method = getattr(request.module, "GOLDEN_METHOD", None)
    if method is None:
        method = path.parts[len(path.parts) - path.parts[::-1].index("packages")]
    root = request.config.getoption("--golden-root")
    if root is None:
        parity = next(folder for folder in path.parents if folder.name == "parity")
        root = parity / "golden"
    return GoldenSet(Path(root), method, request.config.getoption("--golden-set"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep generated data and image caches out of the user's cache folder."""
    patch = pytest.MonkeyPatch()
    patch.setenv("REID_CACHE", str(tmp_path_factory.mktemp("reid-cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def make_data(own_cache: None) -> Callable[[str], Path]:
    """From a data set's name to the folder of its tiny synthetic miniature."""
    from reid_core.data.synthetic import ensure_synthetic

    return lambda name: ensure_synthetic(name, size="tiny")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Runs installed commands in this process, in an empty folder; a call returns the status."""
    monkeypatch.chdir(tmp_path)
    yield call_installed
    # The commands' console handlers end with the test.
    for name in logging.root.manager.loggerDict:
        if name.startswith("reid_") and "." not in name:
            logging.getLogger(name).handlers = []
            logging.getLogger(name).propagate = True


@pytest.fixture
def refuses(
    run: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Runs a command as ``run`` does, and checks that it fails as it should.

    That is with status 2, with one message that has all texts of ``says`` in it, and with nothing
    left behind but what begins with one of ``leaves``.
    """

    def check(
        name: str, *args: object, says: Collection[str], leaves: Collection[str] = ()
    ) -> None:
        before = _listing(tmp_path)
        assert run(name, *args) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        flat = " ".join(message.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
        for part in says:
            assert part in flat, f"{part!r} is not in: {flat}"
        new = _listing(tmp_path) - before
        left = sorted(path for path in new if not path.startswith(tuple(leaves)))
        assert not left, f"left behind: {left}"

    return check


def _listing(folder: Path) -> set[str]:
    """Return all files and folders, less the folder of runs, which stays for others."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {"runs"}
