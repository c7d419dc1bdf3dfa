"""Runs that are killed, and runs of several processes."""

import sys

import pytest
import torch

from reid_core.engine import read_torch_file
from reid_core.testing.commands import kill_when, run_installed, start_installed, torchrun
from reid_core.testing.run_files import read_json, read_records


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_run_ends_with_the_same_weights_and_figures(finished, sysu, small, tmp_path):
    args = ("--data", sysu, *small, "--out", "run", "--run.checkpoint-steps", "3")
    process = start_installed("agw-train", *args, cwd=tmp_path)
    assert kill_when(process, (tmp_path / "run/last.pt").is_file)
    run_installed("agw-train", "--resume", "run", cwd=tmp_path)
    expected, found = (
        read_torch_file(folder / "last.pt")["objects"] for folder in (finished[0], tmp_path / "run")
    )
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value), name
    moments = expected["optimizer"]["state"]
    assert moments
    for number, state in moments.items():
        buffer = found["optimizer"]["state"][number]["momentum_buffer"]
        assert torch.equal(buffer, state["momentum_buffer"])
    assert figures(tmp_path / "run") == figures(finished[0])


def test_two_processes_train_and_evaluate_to_the_last_digit(sysu, small, tmp_path):
    args = ("--data", sysu, *small, "--batch-size", "8", "--out", "run")
    done = torchrun("agw-train", *args, cwd=tmp_path)
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [0, 1]
    assert done.stdout.count("report.html") == 1, "more than one process printed"
    # What two processes left is evaluated by one.
    args = ("--weights", "run", "--data", sysu, "--batch-size", "64", "--out", "e")
    run_installed("agw-eval", *args, cwd=tmp_path)
    assert figures(tmp_path / "e") == figures(tmp_path / "run")


def figures(folder):
    record = read_json(folder / "results.json")
    return {name: record[name] for name in ("results", "variants")}
