"""Runs that are killed in either stage, and runs of several processes."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from reid_core.engine import read_torch_file
from reid_core.testing.commands import installed, run_installed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("checkpoint", ["teacher/last.pt", "last.pt"])
def test_a_killed_run_ends_with_the_same_weights_and_figures(
    finished, data, small, tmp_path, checkpoint
):
    args = (*data, *small, "--out", "run", "--run.checkpoint-steps", "1")
    process = subprocess.Popen(
        [installed("deskpro-train"), *map(str, args)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 400
    while process.poll() is None and not (tmp_path / "run" / checkpoint).is_file():
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
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
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    train = [json.loads(line) for line in lines if '"train"' in line]
    assert [record["epoch"] for record in train] == [0, 1]
    assert done.stdout.count("wrote run/report.html") == 1, "more than one process printed"
    # What two processes left is evaluated by one.
    args = ("--weights", "run", "--data", prcc, "--prepared", prepared, "--batch-size", "64")
    run_installed("deskpro-eval", *args, "--out", "e", cwd=tmp_path)
    assert figures(tmp_path / "e") == figures(tmp_path / "run")


def torchrun(*args, cwd):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # One thread each: two processes with two threads each would fight over two cores.
    return run_installed(
        "torchrun",
        *("--no-python", "--nproc-per-node", "2", "--master-port", port),
        *args,
        cwd=cwd,
        env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def figures(folder):
    record = json.loads((folder / "results.json").read_text())
    return {name: record[name] for name in ("results", "variants")}
