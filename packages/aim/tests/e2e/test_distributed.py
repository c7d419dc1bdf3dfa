"""Two processes under torchrun: they train, and evaluate to the numbers of one process."""

from reid_core.testing.commands import run_installed, torchrun
from reid_core.testing.run_files import read_json, read_records


def test_two_processes_train(ltcc, small, tmp_path):
    args = ("--data", ltcc, *small, "--batch-size", "8", "--out", "run")
    done = torchrun("aim-train", *args, cwd=tmp_path)
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [0, 1]
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
    return read_json(folder / "results.json")[which]
