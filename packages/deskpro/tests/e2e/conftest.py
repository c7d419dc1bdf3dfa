"""Synthetic data, prepared, and one finished run that the tests of the installed commands share."""

import logging

import pytest

from reid_core.testing.commands import run_installed
from reid_deskpro import cli

COMMANDS = {
    "deskpro-train": cli.train,
    "deskpro-eval": cli.evaluate,
    "deskpro-embed": cli.embed,
    "deskpro-export": cli.export,
    "deskpro-teacher": cli.teacher,
    "deskpro-prepare": cli.prepare,
}


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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep generated data and image caches out of the user's cache folder."""
    patch = pytest.MonkeyPatch()
    patch.setenv("REID_CACHE", str(tmp_path_factory.mktemp("reid-cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def prcc(_own_cache):
    """Return the folder of a tiny synthetic PRCC."""
    from reid_core.data.synthetic import ensure_synthetic

    return ensure_synthetic("prcc", size="tiny")


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


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in this process, in an empty folder; its status."""
    monkeypatch.chdir(tmp_path)

    def call(name, *args):
        with pytest.raises(SystemExit) as ending:
            COMMANDS[name]([str(arg) for arg in args])
        return ending.value.code

    yield call
    for name in ("reid_core", "reid_deskpro"):  # the commands' console handlers end with the test
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
