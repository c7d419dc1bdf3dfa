"""A run that is killed again and again ends with the weights of one that never was."""

import json
import random
import sys
import time

import pytest
import torch

from reid_core.engine import read_torch_file
from reid_core.testing.commands import kill_when, run_installed, start_installed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")


@pytest.fixture(scope="module")
def settings(ltcc, small):
    return ("--data", ltcc, *small, "--run.checkpoint-steps", "1", "--run.eval-every", "1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("uninterrupted")
    run_installed("aim-train", *settings, "--out", "run", cwd=folder)
    return folder / "run"


def test_killed_at_many_moments_ends_bit_equal(tmp_path, settings, uninterrupted):
    out = tmp_path / "run"
    last = out / "last.pt"
    generator = random.Random(7)

    def begun():
        return (out / "config.json").is_file()

    def half_written():
        return any(out.glob(".last.pt.*.tmp"))

    def saved_again():
        return last.exists() and last.stat().st_mtime_ns != before

    kills = 0
    process = start_installed("aim-train", *settings, "--out", "run", cwd=tmp_path)
    kills += kill_when(process, begun)  # before the first checkpoint
    for moment in (half_written, saved_again, half_written, "random", "random"):
        before = last.stat().st_mtime_ns if last.exists() else None
        process = start_installed("aim-train", "--resume", "run", cwd=tmp_path)
        if moment == "random":
            # Somewhere between the start of the process and the middle of its work.
            due = time.monotonic() + generator.uniform(3, 9)
            kills += kill_when(process, lambda due=due: time.monotonic() > due)
        else:
            kills += kill_when(process, moment)
    assert kills >= 4, "too few of the kills met a running process"
    run_installed("aim-train", "--resume", "run", cwd=tmp_path)

    expected, found = read_torch_file(uninterrupted / "last.pt"), read_torch_file(last)
    assert_equal(found["objects"], expected["objects"], "objects")
    assert results(out) == results(uninterrupted)
    assert metrics(out) == metrics(uninterrupted)
    assert not list(out.glob("*.tmp"))


def assert_equal(found, expected, where):
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{where}[{index}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


def results(folder):
    record = json.loads((folder / "results.json").read_text())
    names = ("untrained", "results", "best_on_test", "preset", "command", "fingerprint")
    return {name: record[name] for name in names}


def metrics(folder):
    """Return the logged records without what a clock decides."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("timing", None)
        record.pop("time", None)
    return records
