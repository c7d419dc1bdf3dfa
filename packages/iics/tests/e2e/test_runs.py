"""Runs that are killed, and runs of several processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reid_core.engine import read_checkpoint, read_torch_file
from reid_core.testing.commands import run_installed, torchrun
from reid_core.testing.run_files import read_json, read_records

SCRIPT = Path(__file__).with_name("killed_run.py")
STEPS = 2  # iterations between two checkpoints

# Where a run is killed: the place, and which call of it; what is saved by then: how often labels
# were made, and batches of the epoch. The tiny data have three cameras: a cycle cuts four
# dendrograms.
KILLS = {
    "while all images are clustered": ("clustering", 4, 1, 0),
    "while the cameras are clustered": ("clustering", 6, 2, 0),
    "inside stage 1": ("stage 1", 1 + STEPS, 1, STEPS),
    "inside stage 2": ("stage 2", 1 + STEPS, 2, STEPS),
}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("case", KILLS)
def test_a_killed_run_ends_with_the_same_weights_and_figures(
    case, finished, market, small, tmp_path
):
    place, number, num_labelled, num_batches = KILLS[case]
    args = ("--data", market, *small, "--out", "run", "--run.checkpoint-steps", STEPS)
    killed = subprocess.run(
        [sys.executable, str(SCRIPT), place, str(number), *map(str, args)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = clusters(tmp_path / "run")
    assert len(before) == num_labelled
    state = read_checkpoint(tmp_path / "run/last.pt")
    assert (state.objects["stage"]["first"], state.step) == (before[-1]["epoch"], num_batches)

    printed = run_installed("iics-train", "--resume", "run", cwd=tmp_path).stdout
    expected, found = (
        read_torch_file(folder / "last.pt")["objects"] for folder in (finished[0], tmp_path / "run")
    )
    assert_equal(found["model"], expected["model"])
    assert_equal(found["stage"]["heads"], expected["stage"]["heads"])
    moments = expected["stage"]["optimizer"]["state"]
    assert moments
    assert_equal(found["stage"]["optimizer"]["state"], moments)
    assert figures(tmp_path / "run") == figures(finished[0])
    # What was clustered before is neither done nor told again.
    assert printed.count("clusters of") == 4 - len(before)
    assert [without_time(record) for record in clusters(tmp_path / "run")] == [
        without_time(record) for record in clusters(finished[0])
    ]


def test_two_processes_train_and_evaluate_to_the_last_digit(market, small, tmp_path):
    args = ("--data", market, *small, "--cycles", "1", "--inter.batch-size", "8")
    done = torchrun("iics-train", *args, "--select", "best", "--out", "run", cwd=tmp_path)
    assert done.stdout.count("report.html") == 1, "more than one process printed"
    assert len(clusters(tmp_path / "run")) == 2
    # What two processes left is evaluated by one.
    args = ("--weights", "run", "--data", market, "--batch-size", "64", "--out", "e")
    run_installed("iics-eval", *args, cwd=tmp_path)
    assert figures(tmp_path / "e") == figures(tmp_path / "run")


def assert_equal(found, expected):
    """Compare nested states to the last bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_equal(found[name], value)
        else:
            assert torch.equal(found[name], value), name


def clusters(folder):
    return read_records(folder, "clusters")


def without_time(record):
    stage = "intra" if "intra" in record else "inter"
    return {**record, stage: {**record[stage], "seconds": 0}}


def figures(folder):
    return read_json(folder / "results.json")["results"]
