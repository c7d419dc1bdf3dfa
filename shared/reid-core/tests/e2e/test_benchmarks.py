"""benchmarks/evaluation.py and reranking.py on a few people."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


def run(script, tmp_path, *options):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--rounds", "1", "--threads", "1"]
    command += ["--folder", str(tmp_path), "--out", str(tmp_path / "found"), *options]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "contestants"),
    [
        (
            "evaluation",
            ("--sizes", "market", "--shrink", "40", "--contestants", "reid-core,full sort"),
            ["reid-core", "full sort"],
        ),
        (
            "evaluation",
            ("--sizes", "big-mapped", "--shrink", "1000"),
            ["reid-core"],
        ),
        ("reranking", ("--sizes", "small", "--shrink", "20"), ["product", "reid-core", "dense"]),
    ],
    ids=["evaluation", "mapped", "reranking"],
)
def test_a_small_benchmark_leaves_its_figures(tmp_path, script, options, contestants):
    done = run(script, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [row["contestant"] for row in rows] == contestants
    for row in rows:
        assert row["error"] == ""
        assert row["ratio"] > 0
        assert row["agrees"] is (None if row["contestant"] == "product" else True)
    table = (tmp_path / "found.md").read_text(encoding="utf-8")
    assert table in done.stdout
    assert all(f"| {name} |" in table for name in contestants)
    # The features were put away.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.md"]


def test_unknown_sizes_are_named(tmp_path):
    done = run("evaluation", tmp_path, "--sizes", "ltcc,imagenet")
    assert done.returncode == 2
    assert "unknown: imagenet; choose from ltcc, market" in done.stderr
