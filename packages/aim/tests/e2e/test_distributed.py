"""Two processes under torchrun: they train, and evaluate to the numbers of one process."""

import json
import socket

from reid_core.testing.commands import run_installed


def torchrun(*args, cwd, check=True):
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
        check=check,
    )


def test_two_processes_train(ltcc, small, tmp_path):
    args = ("--data", ltcc, *small, "--batch-size", "8", "--out", "run")
    done = torchrun("aim-train", *args, cwd=tmp_path)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    train = [json.loads(line) for line in lines if '"train"' in line]
    assert [record["epoch"] for record in train] == [0, 1]
    assert done.stdout.count("report.html") == 1, "more than one process printed"
    # What two processes left is evaluated by one.
    run_installed("aim-eval", "--weights", "run", "--data", ltcc, "--out", "e", cwd=tmp_path)
    assert figures(tmp_path / "e") == figures(tmp_path / "run")


def test_two_processes_evaluate_to_the_last_digit(finished, ltcc, tmp_path):
    folder, _ = finished
    args = ("--weights", folder, "--data", ltcc, "--rerank", "--k1", "5", "--k2", "2")
    torchrun("aim-eval", *args, "--out", "two", cwd=tmp_path)
    assert figures(tmp_path / "two") == figures(folder)
    run_installed("aim-eval", *args, "--out", "one", cwd=tmp_path)
    for table in sorted((tmp_path / "one").glob("*.csv")):
        assert (tmp_path / "two" / table.name).read_bytes() == table.read_bytes()
    assert figures(tmp_path / "two", "variants") == figures(tmp_path / "one", "variants")


def test_a_failing_process_ends_the_other(ltcc, small, tmp_path):
    args = ("--data", ltcc, *small, "--optim.lr", "1e30", "--out", "run")
    done = torchrun("aim-train", *args, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "in epoch 0, batch" in done.stderr


def figures(folder, which="results"):
    return json.loads((folder / "results.json").read_text())[which]
