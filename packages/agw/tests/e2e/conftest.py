"""Synthetic data and one finished run that the tests of the installed commands share."""

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="session")
def small():
    """Return arguments for a run of seconds: 64 x 32 pixels, a shallow network, both stages."""
    return (
        *("--preset", "demo", "--model.backbone", "resnet10", "--epochs", "2"),
        *("--batch-size", "16", "--num-instances", "2", "--optim.lr", "0.02"),
        *("--data.height", "64", "--data.width", "32"),
    )


@pytest.fixture(scope="session")
def sysu(make_data):
    return make_data("sysu")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, sysu, small):
    """Return the folder of a finished run on tiny SYSU-MM01, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("agw-train", "--data", sysu, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
