"""Synthetic data and one finished run that the tests of the installed commands share."""

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="session")
def small():
    """Return arguments for a run of seconds: 128 x 64 pixels, a shallow network, two stages."""
    return (
        *("--preset", "demo", "--model.backbone", "resnet10", "--epochs", "2"),
        *("--batch-size", "16", "--num-instances", "4"),
        *("--loss.start-epoch-adv", "1", "--loss.start-epoch-cc", "1"),
    )


@pytest.fixture(scope="session")
def ltcc(make_data):
    """Return the folder LTCC_ReID of a tiny synthetic data set."""
    return make_data("ltcc")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, ltcc, small):
    """Return the folder of a finished run on the tiny data set, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("aim-train", "--data", ltcc, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
