"""Synthetic data and one finished run that the tests of the installed commands share."""

import logging

import pytest

from reid_agw import cli
from reid_core.testing.commands import run_installed

COMMANDS = {
    "agw-train": cli.train,
    "agw-eval": cli.evaluate,
    "agw-embed": cli.embed,
    "agw-export": cli.export,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in this process, in an empty folder; its status."""
    monkeypatch.chdir(tmp_path)

    def call(name, *args):
        with pytest.raises(SystemExit) as ending:
            COMMANDS[name]([str(arg) for arg in args])
        return ending.value.code

    yield call
    for name in ("reid_core", "reid_agw"):  # the commands' console handlers end with the test
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


@pytest.fixture(scope="session")
def small():
    """Return arguments for a run of seconds: 64 x 32 pixels, a shallow network, both stages."""
    return (
        *("--preset", "demo", "--model.backbone", "resnet10", "--epochs", "2"),
        *("--batch-size", "16", "--num-instances", "2", "--optim.lr", "0.02"),
        *("--data.height", "64", "--data.width", "32"),
    )


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep generated data and image caches out of the user's cache folder."""
    patch = pytest.MonkeyPatch()
    patch.setenv("REID_CACHE", str(tmp_path_factory.mktemp("reid-cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def make_data(_own_cache):
    """Return a function from a data set's name to the folder of its tiny synthetic miniature."""
    from reid_core.data.synthetic import ensure_synthetic

    return lambda name: ensure_synthetic(name, size="tiny")


@pytest.fixture(scope="session")
def sysu(make_data):
    return make_data("sysu")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, sysu, small):
    """Return the folder of a finished run on tiny SYSU-MM01, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_installed("agw-train", "--data", sysu, *small, "--out", "run", cwd=folder)
    return folder / "run", done.stdout
