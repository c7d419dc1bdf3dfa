"""The CSV tables of queries."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reid_core.commands.query_table import query_table_name, write_query_table
from reid_core.data.sample import Sample
from reid_core.evaluation import PROTOCOLS, evaluate_protocol, l2_normalize


@pytest.fixture(scope="module")
def splits():
    """Four queries, the last of a person who is in no other camera, and six gallery images."""
    pids, gallery = [0, 1, 2, 9], [0, 0, 1, 1, 2, 2]
    return {
        "query": [Sample(Path(f"q/{i}, \u00e4.jpg"), pid, 0) for i, pid in enumerate(pids)],
        "gallery": [Sample(Path(f"g/{i}.jpg"), pid, 1) for i, pid in enumerate(gallery)],
    }


def evaluate(splits, name):
    generator = torch.Generator().manual_seed(1)
    features = {
        split: l2_normalize(torch.randn(len(samples), 5, generator=generator))
        for split, samples in splits.items()
    }
    protocol = PROTOCOLS[name]
    renamed = {"query": protocol.query, "gallery": protocol.gallery}
    return evaluate_protocol(
        protocol,
        {renamed[split]: samples for split, samples in splits.items()},
        {renamed[split]: values for split, values in features.items()},
    )


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_line_per_query(splits, tmp_path):
    result = evaluate(splits, "market1501/standard")
    write_query_table(
        tmp_path / "t.csv",
        result,
        ("path", "pid"),
        lambda split, row: (splits[split][row].path.as_posix(), splits[split][row].pid),
    )
    rows = rows_of(tmp_path / "t.csv")
    assert [row["path"] for row in rows] == [f"q/{i}, \u00e4.jpg" for i in range(4)]
    assert [row["pid"] for row in rows] == ["0", "1", "2", "9"]
    assert list(rows[0]) == [
        *("trial", "path", "pid", "ap", "inp", "first_hit", "num_positives", "num_junk")
    ]
    ranking = result.trials[0]
    assert [float(row["ap"]) for row in rows[:3]] == ranking.average_precision[:3].tolist()
    assert [int(row["first_hit"]) for row in rows[:3]] == ranking.first_hit[:3].tolist()
    lonely = rows[3]
    assert (lonely["ap"], lonely["inp"], lonely["first_hit"]) == ("", "", "")
    assert lonely["num_positives"] == "0"


def test_one_line_per_query_and_trial(splits, tmp_path):
    result = evaluate(splits, "prcc/cloth_changing_single_shot")
    write_query_table(tmp_path / "t.csv", result, (), lambda split, row: ())
    rows = rows_of(tmp_path / "t.csv")
    assert [int(row["trial"]) for row in rows] == [t for t in range(1, 11) for _ in range(4)]


def test_names(splits):
    result = evaluate(splits, "market1501/standard")
    assert query_table_name(result) == "queries-market1501-standard.csv"
    assert query_table_name(result, "re-ranking") == "queries-market1501-standard-re-ranking.csv"
    own = replace(result, protocol=replace(result.protocol, name="my data/x"))
    assert query_table_name(own).startswith("queries-")
