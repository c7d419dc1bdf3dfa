"""The records of a run and its messages."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest

from reid_core.engine import MetricsWriter, configure_logging
from reid_core.errors import OutputError


def train(epoch, **values):
    return {"kind": "train", "epoch": epoch, **values}


def write(path, *records, **options):
    writer = MetricsWriter(path, **options)
    for record in records:
        writer.write(record)
    size = writer.sync()
    writer.close()
    return size


def test_one_json_object_per_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    results = {"ltcc/standard": {"rank1": np.float64(0.5), "num_queries": np.int64(3)}}
    evaluation = {"kind": "eval", "epoch": -1, "results": results, "paths": (tmp_path,)}
    size = write(path, evaluation, train(0, loss=1.5, name="\u00e9"))
    assert size == path.stat().st_size
    first, second = path.read_text(encoding="utf-8").splitlines()
    expected = {"ltcc/standard": {"rank1": 0.5, "num_queries": 3}}
    assert json.loads(first) == {**evaluation, "results": expected, "paths": [tmp_path.as_posix()]}
    assert json.loads(second) == train(0, loss=1.5, name="\u00e9")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_non_finite_numbers_are_null(tmp_path, value):
    write(tmp_path / "m.jsonl", train(0, loss=value, more=[value, {"deep": value}]))
    text = (tmp_path / "m.jsonl").read_text(encoding="utf-8")
    assert json.loads(text) == train(0, loss=None, more=[None, {"deep": None}])


def test_records_after_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    size = write(path, train(0, a=1))
    write(path, train(1, a=2), train(2, a=3), keep=size)
    with path.open("ab") as file:
        file.write(b'{"kind": "train", "ep')  # killed while writing
    write(path, train(1, a=4), keep=size)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records == [train(0, a=1), train(1, a=4)]


def test_shortened_file_is_continued_with_a_warning(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    write(path, train(0, a=1))
    with caplog.at_level(logging.WARNING):
        write(path, train(1, a=2), keep=10_000)
    assert "was shortened since its checkpoint" in caplog.text
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_tensorboard_tags(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = {"ltcc/standard": {"rank1": 0.5, "name": "x"}}
    write(
        tmp_path / "metrics.jsonl",
        train(0, loss_id=1.5, note="x", timing={"seconds": 2.0}),
        {"kind": "eval", "epoch": 0, "results": results},
    )
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == [
        "eval/ltcc/standard/rank1",
        "train/loss_id",
        "train/timing/seconds",
    ]
    assert [(event.step, event.value) for event in events.Scalars("train/loss_id")] == [(1, 1.5)]


def test_tensorboard_keeps_what_was_saved_inside_an_epoch(tmp_path):
    """A checkpoint inside epoch 1 holds a record of it already (``Run.log``, ``Run.save``)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "metrics.jsonl"
    clusters = {"kind": "clusters", "epoch": 1, "number": 7}
    size = write(path, train(0, a=1), clusters)
    write(path, train(1, a=2), keep=size)
    write(path, train(1, a=3), keep=size, num_epochs=1)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("clusters/number")] == [(2, 7)]
    assert [(event.step, event.value) for event in events.Scalars("train/a")] == [(1, 1), (2, 3)]


def test_refused_record_leaves_whole_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write(train(0, a=1))

    class HalfFull:
        """Takes a few bytes, then refuses, as a full disk does."""

        def __init__(self, file) -> None:
            self.file, self.left = file, 5

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            self.left -= 5
            return self.file.write(data[:5])

        def __getattr__(self, name):
            return getattr(self.file, name)

    writer._file = HalfFull(writer._file)
    with pytest.raises(OutputError, match=r"metrics\.jsonl: No space left on device"):
        writer.write(train(1, a=2))
    writer.close()
    assert path.read_text(encoding="utf-8").count("\n") == 1
    assert path.read_bytes().endswith(b"\n")


def test_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        MetricsWriter(tmp_path / "no" / "metrics.jsonl")


@pytest.mark.parametrize(("rank", "shown"), [("0", True), ("1", False)])
def test_messages_of_process_0_only(own_loggers, monkeypatch, capsys, rank, shown):
    monkeypatch.setenv("RANK", rank)
    configure_logging("reid_toy")
    configure_logging("reid_toy")
    logging.getLogger("reid_toy.recipe").warning("careful")
    logging.getLogger("reid_core.engine").error("broken")
    error = capsys.readouterr().err
    assert error.count("WARNING: careful") == shown
    assert error.count("ERROR: broken") == 1
