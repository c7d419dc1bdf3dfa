"""Runs that are killed in either stage, and runs of several processes."""

import sys

import pytest
import torch

from reid_core.engine import read_torch_file
from reid_core.testing.commands import kill_when, run_installed, start_installed, torchrun
from reid_core.testing.run_files import read_json, read_records


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("checkpoint", ["teacher/last.pt", "last.pt"])
def test_a_killed_run_ends_with_the_same_weights_and_figures(
    finished, data, small, tmp_path, checkpoint
):
    args = (*data, *small, "--out", "run", "--run.checkpoint-steps", "1")
    process = start_installed("deskpro-train", *args, cwd=tmp_path)
    assert kill_when(process, (tmp_path / "run" / checkpoint).is_file, seconds=400)
    assert (tmp_path / "run" / "last.pt").exists() is (checkpoint == "last.pt")
    run_installed("deskpro-train", "--resume", "run", cwd=tmp_path)
    expected, found = (
        read_torch_file(folder / "last.pt")["objects"] for folder in (finished[0], tmp_path / "run")
    )
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value), name
    assert expected["optimizer"]["state"]
    for number, state in expected["optimizer"]["state"].items():
        for moment in ("exp_avg", "exp_avg_sq"):
            own = found["optimizer"]["state"][number][moment]
            assert torch.equal(own, state[moment])
    assert figures(tmp_path / "run") == figures(finished[0])


@pytest.mark.slow
def test_two_processes_train_both_stages_and_evaluate_to_the_last_digit(
    data, prcc, prepared, small, tmp_path
):
    done = torchrun("deskpro-train", *data, *small, "--out", "run", cwd=tmp_path)
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [0, 1]
    assert done.stdout.count("wrote run/report.html") == 1, "more than one process printed"
    # What two processes left is evaluated by one.
    args = ("--weights", "run", "--data", prcc, "--prepared", prepared, "--batch-size", "64")
    run_installed("deskpro-eval", *args, "--out", "e", cwd=tmp_path)
    assert figures(tmp_path / "e") == figures(tmp_path / "run")


def figures(folder):
    record = read_json(folder / "results.json")
    return {name: record[name] for name in ("results", "variants")}
