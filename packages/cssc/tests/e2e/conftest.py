"""Synthetic data and one finished run that the tests of the installed commands share."""

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="session")
def small():
    """Return arguments for a run of seconds: 128 x 64 pixels, a shallow network, two stages."""
    return (
        *("--preset", "demo", "--epochs", "2", "--batch-size", "16", "--num-instances", "4"),
        *("--loss.start-epoch-triplet", "1"),
    )


@pytest.fixture(scope="session")
def celeb(make_data):
    """Return the folder Celeb-reID of a tiny synthetic data set."""
    return make_data("celeb")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, celeb, small):
    """Return the folder of a finished run on the tiny data set, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("cssc-train", "--data", celeb, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
