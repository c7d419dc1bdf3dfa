"""benchmarks/run.py: with small stand-ins for the trainings, and once with a real one."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from reid_core.data.synthetic import synthesize

RUN = Path(__file__).parents[4] / "benchmarks" / "run.py"

# Leaves what a training leaves. FAKE says what happens to a method, e.g. "cssc=fail aim=wait".
FAKE = """#!{python}
import argparse, json, os, sys, time
from pathlib import Path

method = Path(sys.argv[0]).name.removesuffix("-train")
parser = argparse.ArgumentParser()
for name in ("data", "dataset", "preset", "seed", "out", "resume", "data.trial", "device"):
    parser.add_argument(f"--{{name}}", dest=name.replace(".", "_"))
args, rest = parser.parse_known_args()
with open(os.environ["FAKE_CALLS"], "a") as file:
    file.write(" ".join([method, *sys.argv[1:]]) + "\\n")
folder = Path(args.resume or args.out)
known = vars(args)
if args.resume:
    known = json.loads((folder / "config.json").read_text())
else:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(known))
print("training", method, "visible", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
fate = dict(item.split("=") for item in os.environ.get("FAKE", "").split()).get(method)
if fate == "fail":
    sys.exit("something went wrong")
if fate == "empty":
    sys.exit(0)
if fate == "wait" and not args.resume:
    Path(os.environ["FAKE_CALLS"] + ".waiting").write_text("")
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            time.sleep(0.05)
        sys.exit("the benchmark is gone")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
protocols = {protocols}
rank1 = (sum(map(ord, method)) * 7 + int(known["seed"]) * 13 + int(known["data_trial"] or 0)) % 90
figures = {{"rank1": (rank1 + 1) / 100, "mAP": rank1 / 200, "num_queries": 9}}
results = {{name: figures for name in protocols[known["dataset"]]}}
(folder / "metrics.jsonl").write_text("")
best = {{"epoch": 0, "rank1": 0.5, "results": results}}
record = {{
    "synthetic": known["data"].startswith("synthetic"), "fingerprint": "f", "epochs": 1,
    "selected": "last", "best_on_test": best, "results": results,
}}
(folder / "results.json").write_text(json.dumps(record))
(folder / "report.html").write_text("")
"""

MATRIX = tomllib.loads(RUN.with_name("matrix.toml").read_text(encoding="utf-8"))
PROTOCOLS = {name: dataset["protocols"] for name, dataset in MATRIX["datasets"].items()}


class Bench:
    """Starts the benchmark with stand-ins first on the path."""

    def __init__(self, folder):
        self.folder, self.calls_file = folder, folder / "calls"
        programs = folder / "programs"
        programs.mkdir()
        for method in ("aim", "cssc", "agw", "iics", "deskpro"):
            path = programs / f"{method}-train"
            path.write_text(FAKE.format(python=sys.executable, protocols=PROTOCOLS))
            path.chmod(0o755)
        places = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.env = {**os.environ, "PATH": os.pathsep.join(places), "FAKE": ""}
        self.env |= {"FAKE_CALLS": str(self.calls_file), "REID_CACHE": str(folder / "cache")}
        self.results = folder / "results"

    def command(self, *args):
        return [sys.executable, str(RUN), *args, "--results", str(self.results)]

    def start(self, *args, **env):
        return subprocess.Popen(
            self.command(*args),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
            cwd=self.folder,
            env={**self.env, **env},
        )

    def __call__(self, *args, status=0, **env):
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=300)
        assert process.returncode == status, f"{process.returncode}\n{out}\n{err}"
        return out, err

    def calls(self):
        if not self.calls_file.exists():
            return []
        return [line.split() for line in self.calls_file.read_text().splitlines()]

    def ledger(self):
        path = self.results / "ledger.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def tables(self):
        """Return the tables without what differs from run to run: times and memory."""
        text = (self.results / "matrix-synthetic.csv").read_text()
        return text, table_of((self.results / "matrix-synthetic.md").read_text())

    def wait_for_a_waiting_training(self, process):
        waiting = Path(f"{self.calls_file}.waiting")
        for _ in range(3000):
            if waiting.exists():
                return
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        raise AssertionError("no training started")


def table_of(text):
    """Return the lines of the tables that have figures, of the console's or of Markdown's."""
    lines = [line for line in text.splitlines() if line.startswith(("│", "|"))]
    return [line for line in lines if any(f" {name}/" in line for name in PROTOCOLS)]


pytestmark = pytest.mark.skipif(os.name == "nt", reason="stand-ins are scripts of a POSIX system")
METHODS = ("--methods", "aim,cssc,iics-threshold")
LTCC = ("ltcc", "--data", "synthetic", *METHODS)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_every_method_runs_and_is_entered_once(bench):
    out, _ = bench(*LTCC, "--seeds", "2")
    called = [(call[0], call[call.index("--seed") + 1]) for call in bench.calls()]
    assert called == [(method, seed) for seed in "12" for method in ("aim", "cssc", "iics")]
    assert "--variant threshold" in " ".join(bench.calls()[2])
    records = bench.ledger()
    assert [(item["row"], item["seed"]) for item in records] == [
        (row, seed) for seed in (1, 2) for row in ("aim", "cssc", "iics-threshold")
    ]
    first = records[0]
    assert (first["synthetic"], first["preset"], first["attempts"]) == (True, "demo", 1)
    assert first["command"] == (
        "aim-train --data synthetic:ltcc --dataset ltcc --preset demo --seed 1"
    )
    assert first["wall_seconds"] > 0
    assert first["peak_memory_bytes"] > 1e6
    assert str(bench.folder) not in json.dumps(records)
    assert len(table_of(out)) == 6
    assert all("SYNTHETIC" in line for line in table_of(out))
    tables = bench.tables()
    again, _ = bench(*LTCC, "--seeds", "2")
    assert len(bench.calls()) == 6, "finished cells are not repeated"
    assert again.count("done before") == 6
    assert bench.ledger() == records
    assert (bench.tables(), table_of(again)) == (tables, table_of(out))


def test_a_cell_that_was_not_entered_before_an_interruption_is_entered_later(bench):
    bench(*LTCC)
    ledger = bench.results / "ledger.jsonl"
    first, *others = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(others) + first[:40])
    bench(*LTCC)
    assert len(bench.calls()) == 3
    assert sorted(item["row"] for item in bench.ledger()) == ["aim", "cssc", "iics-threshold"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_benchmark_goes_on_and_ends_with_the_same_table(bench, tmp_path, number):
    process = bench.start(*LTCC, FAKE="cssc=wait")
    bench.wait_for_a_waiting_training(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "interrupted" in out, "the training was asked to leave, not killed"
    assert "stopped; 1 of 3 cells are done. The same command goes on from here" in err
    assert [item["row"] for item in bench.ledger()] == ["aim"]
    out, _ = bench(*LTCC, FAKE="cssc=wait")
    assert [call[0] for call in bench.calls()] == ["aim", "cssc", "cssc", "iics"]
    assert bench.calls()[2][1] == "--resume"
    assert [item["attempts"] for item in bench.ledger()] == [1, 2, 1]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    other = Bench(undisturbed)
    expected, _ = other(*LTCC)
    assert table_of(out) == table_of(expected)
    assert bench.tables() == other.tables()


def test_a_benchmark_that_was_killed_goes_on(bench):
    process = bench.start(*LTCC, FAKE="aim=wait")
    bench.wait_for_a_waiting_training(process)
    process.kill()
    process.communicate()
    bench(*LTCC)
    assert [call[:2] for call in bench.calls()][:2] == [["aim", "--data"], ["aim", "--resume"]]
    record = next(item for item in bench.ledger() if item["row"] == "aim")
    assert record["attempts"] == 2


def test_a_training_killed_before_it_could_be_continued_starts_again(bench):
    folder = bench.folder / "runs" / "benchmark" / "ltcc-synthetic" / "aim-demo-seed1"
    folder.mkdir(parents=True)
    (folder / "origin.json").write_text("{}")
    bench("ltcc", "--data", "synthetic", "--methods", "aim")
    assert len(bench.ledger()) == 1


def test_a_failed_cell_does_not_stop_the_others(bench):
    out, err = bench(*LTCC, status=1, FAKE="aim=fail iics=empty")
    assert "2 of 3 cells failed" in err
    assert "aim on ltcc (synthetic), seed 1: exit status 1" in err
    assert "  | something went wrong" in err
    assert "runs/benchmark/ltcc-synthetic/aim-demo-seed1.log" in err
    assert "it left no results.json and report.html" in err
    assert len(table_of(out)) == 2
    assert [item["row"] for item in bench.ledger()] == ["cssc"]
    bench(*LTCC)
    assert [call[0] for call in bench.calls()] == ["aim", "cssc", "iics", "aim", "iics"]
    assert len(bench.ledger()) == 3


def test_cells_run_in_parallel_with_a_log_and_a_line_each(bench):
    out, _ = bench(*LTCC, "--devices", "cpu,cpu", "--seeds", "2")
    assert "training" not in out, "the output of several cells at a time is in their logs"
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert sum("started on the CPU" in line for line in lines) == 6
    assert sum(": done; ltcc/standard rank-1 " in line for line in lines) == 6
    logs = sorted((bench.folder / "runs" / "benchmark" / "ltcc-synthetic").glob("*.log"))
    assert len(logs) == 6
    assert all("training" in log.read_text() for log in logs)
    assert all("--device cpu" in " ".join(call) for call in bench.calls())


def test_one_cell_at_a_time_shows_its_output(bench):
    out, _ = bench("ltcc", "--data", "synthetic", "--methods", "aim", "--devices", "3")
    assert "training aim visible 3" in out
    assert "--device cuda" in " ".join(bench.calls()[0])


def test_trials_are_trained_each(bench):
    bench("regdb", "--data", "synthetic", "--methods", "agw", "--trials", "2")
    assert [call[call.index("--data.trial") + 1] for call in bench.calls()] == ["1", "2"]
    assert [item["trial"] for item in bench.ledger()] == [1, 2]


def test_all_data_sets_at_once(bench):
    out, _ = bench("all", "--data", "synthetic", "--methods", "iics-threshold,agw")
    called = {call[call.index("--dataset") + 1] for call in bench.calls()}
    assert called == {"ltcc", "prcc", "market1501", "dukemtmc", "msmt17", "sysu", "regdb", "llcm"}
    assert "LTCC (SYNTHETIC" in out
    assert "RegDB (SYNTHETIC" in out


def test_real_images_are_looked_for(bench):
    root = bench.folder / "images"
    folder = synthesize("ltcc", root, size="tiny")
    (folder / "synthetic.json").unlink()
    out, _ = bench("all", "--data", str(root), "--methods", "aim,cssc")
    left_out = next(line for line in out.splitlines() if "left out: " in line)
    assert {"prcc", "last", "celeb", "market1501"} <= set(left_out.replace(",", "").split())
    assert {call[call.index("--dataset") + 1] for call in bench.calls()} == {"ltcc"}
    assert all(item["synthetic"] is False for item in bench.ledger())
    assert all("--data ROOT" in item["command"] for item in bench.ledger())
    assert str(root) not in (bench.results / "ledger.jsonl").read_text()
    assert not (bench.results / "matrix-synthetic.md").exists()
    text = (bench.results / "matrix.md").read_text()
    assert "SYNTHETIC" not in text
    assert "| real | aim | paper | ltcc/standard | 1 |" in text
    moved = root.rename(bench.folder / "moved")
    bench("ltcc", "--data", str(moved), "--methods", "aim,cssc")
    assert len(bench.calls()) == 2


def test_without_images_it_says_what_to_do(bench):
    out, _ = bench("ltcc", status=2)
    assert "nox -s benchmark-ltcc -- --data ROOT" in out
    assert "LTCC_ReID" in out
    out, _ = bench("all", "--methods", "aim", status=2)
    assert "nox -s benchmark -- --data ROOT" in out
    assert all(f"{name}  " in out for name in ("ltcc", "prcc", "last"))
    assert not bench.results.exists()


def test_a_wrong_root_is_explained(bench):
    wrong = bench.folder / "wrong"
    (wrong / "holiday").mkdir(parents=True)
    _, err = bench("ltcc", "--data", str(wrong), status=2)
    assert "holiday" in err
    assert "LTCC_ReID" in err
    _, err = bench("all", "--data", str(wrong), status=2)
    assert "holiday" in err
    assert bench.calls() == []


def test_a_missing_command_is_named_before_anything_runs(bench):
    (bench.folder / "environments").mkdir()
    place = ("--environments", str(bench.folder / "environments"))
    _, err = bench(*LTCC, *place, status=2)
    assert "aim-train is not installed; run this as `nox -s benchmark-...`" in err
    assert bench.calls() == []


def test_tables_are_made_again_from_the_ledger(bench):
    _, err = bench("all", "--report", status=2)
    assert "there are no records in" in err
    out, _ = bench(*LTCC)
    tables, page = bench.tables(), (bench.results / "matrix-synthetic.html").read_text()
    for path in bench.results.glob("matrix*"):
        path.unlink()
    again, _ = bench("all", "--report")
    assert len(bench.calls()) == 3
    assert (bench.tables(), table_of(again)) == (tables, table_of(out))
    assert (bench.results / "matrix-synthetic.html").read_text() == page


def test_environments_are_made_for_the_methods_that_run(bench):
    out, _ = bench("ltcc", "--data", "synthetic", "--list-methods")
    assert out.split() == ["aim", "cssc", "iics"]
    out, _ = bench("ltcc", "--list-methods")
    assert out.split() == []


def test_it_stops_with_its_parent(bench):
    code = "import os, subprocess, sys, time; "
    code += "subprocess.Popen([*sys.argv[1:], '--parent', str(os.getpid())]); time.sleep(300)"
    command = [sys.executable, "-c", code, *bench.command(*LTCC)]
    log = (bench.folder / "output").open("w")
    env = {**bench.env, "FAKE": "aim=wait"}
    parent = subprocess.Popen(command, cwd=bench.folder, env=env, stdout=log, stderr=log)
    bench.wait_for_a_waiting_training(parent)
    parent.kill()
    parent.wait()
    for _ in range(3000):
        if "goes on from here" in (bench.folder / "output").read_text():
            break
        time.sleep(0.1)
    assert "stopped; 0 of 3 cells are done" in (bench.folder / "output").read_text()


@pytest.mark.slow
def test_a_real_training(bench):
    command = ("celeb", "--data", "synthetic:celeb", "--methods", "baseline", "--epochs", "1")
    command += ("--data.synthetic-size", "tiny", "--batch-size", "16", "--num-instances", "4")
    out, _ = bench(*command, CUDA_VISIBLE_DEVICES="")
    (record,) = bench.ledger()
    assert (record["method"], record["preset"], record["synthetic"]) == ("baseline", "demo", True)
    assert set(record["last_epoch"]) == {"celeb/standard"}
    assert record["last_epoch"] == record["best_on_test"]["results"]
    assert record["images_per_second"] > 0
    assert 1e8 < record["peak_memory_bytes"] < 2e10
    assert record["versions"]["torch"]
    row = next(line for line in out.splitlines() if "baseline" in line and "│" in line)
    cells = [cell.strip() for cell in row.split("│")]
    assert (cells[-6:-4], cells[-3:-1]) == (["-", "-"], ["-", "-"]), "nothing is published"
    again, _ = bench(*command, CUDA_VISIBLE_DEVICES="")
    assert "done before" in again, "a finished run is not repeated"
    assert len(bench.ledger()) == 1
