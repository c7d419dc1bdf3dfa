"""Pytest plugin: ``--golden-root``, ``--golden-set`` and skipping of device tests.

Loaded by the workspace's pytest settings (``-p reid_core.testing.plugin``), so that the options
exist whichever folder the tests are started for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.testing.golden import GoldenSet

__all__ = ["golden"]


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
