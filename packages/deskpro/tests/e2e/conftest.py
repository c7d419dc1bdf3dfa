"""Synthetic data, prepared, and one finished run that the tests of the installed commands share."""

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="session")
def tiny():
    """Return settings of both stages for a run of seconds: narrow networks, small images."""
    return (
        *("--preset", "demo", "--batch-size", "12", "--num-instances", "3"),
        *("--data.height", "64", "--data.width", "32", "--model.width", "0.0625"),
        *("--model.face-height", "32", "--model.face-width", "32", "--optim.warmup-epochs", "1"),
    )


@pytest.fixture(scope="session")
def small(tiny):
    """Return settings of a run: one epoch for the teacher, two for DeskPro."""
    return (*tiny, "--epochs", "2", "--teacher-epochs", "1")


@pytest.fixture(scope="session")
def prcc(make_data):
    """Return the folder of a tiny synthetic PRCC."""
    return make_data("prcc")


@pytest.fixture(scope="session")
def prepared(prcc):
    """Return the folder that was prepared of it."""
    from reid_deskpro.prepare import ensure_prepared

    return ensure_prepared("prcc", size="tiny")


@pytest.fixture(scope="session")
def data(prcc, prepared):
    """Return the arguments that name both."""
    return ("--data", prcc, "--dataset", "prcc", "--prepared", prepared)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data, small):
    """Return the folder of a finished run on the tiny data set, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("deskpro-train", *data, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
