"""Synthetic data and one finished run that the tests of the installed commands share."""

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="session")
def small():
    """Return arguments for a run of seconds: two cycles of two short stages, small images."""
    return (
        *("--preset", "demo", "--cycles", "2", "--intra.epochs", "1", "--inter.epochs", "1"),
        *("--intra.batch-size", "4", "--inter.batch-size", "16", "--inter.num-instances", "2"),
        *("--intra.share", "0.05", "--inter.share", "0.05", "--augment.pad", "2"),
        *("--data.height", "64", "--data.width", "32"),
    )


@pytest.fixture(scope="session")
def market(make_data):
    """Return the folder of the tiny synthetic Market-1501."""
    return make_data("market1501")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, market, small):
    """Return the folder of a finished run on it, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("iics-train", "--data", market, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
