"""Values in official checkpoints, and flags of official scripts."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from reid_core.engine.official import (
    copy_to_cpu,
    is_state_dict,
    read_number,
    read_whole,
    require_official,
    save_torch_file,
)
from reid_core.errors import CheckpointError, ConfigError, OutputError
from reid_core.official_flags import one_gpu, refuse, without_effect


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": torch.zeros(1)}, True),
        ({}, False),
        ({"a": 1}, False),
        ({1: torch.zeros(1)}, False),
        ([torch.zeros(1)], False),
        (None, False),
    ],
)
def test_state_dicts(value, expected):
    assert is_state_dict(value) is expected


def test_numbers_of_python_and_numpy():
    assert [read_number(x) for x in (0.5, np.float32(0.5), 1, None, "1")] == [
        0.5,
        0.5,
        1,
        None,
        None,
    ]
    assert [read_whole(x) for x in (3, np.int64(3), 0.5, None, "3")] == [3, 3, None, None, None]


def test_copies_are_independent_and_in_order():
    state = {"b": torch.ones(2), "a": torch.zeros(2)}
    copies = copy_to_cpu(state)
    assert list(copies) == ["b", "a"]
    copies["b"].zero_()
    assert state["b"].all()


@pytest.mark.parametrize(
    ("content", "says"),
    [({"state": 1, "a": 2}, "is a dict with a, state"), ([], "is a list"), (None, "is a NoneType")],
)
def test_what_is_no_official_checkpoint(content, says):
    message = rf"f\.pth is no checkpoint of the official AIM code.*{says}"
    with pytest.raises(CheckpointError, match=message):
        require_official(content, method="AIM", source="f.pth")


def test_what_is_one():
    content = {"model_state_dict": {"a": torch.zeros(1)}, "epoch": 3}
    assert require_official(content, method="AIM", source="f.pth") is content
    with pytest.raises(CheckpointError, match="must be a dict with 'net', but is a dict with epo"):
        require_official(content, method="AGW", source="f.t", key="net")


def test_files_are_whole_or_not_there(tmp_path):
    save_torch_file(tmp_path / "x.pth", {"a": torch.ones(1)})
    assert torch.load(tmp_path / "x.pth", weights_only=True) == {"a": torch.ones(1)}
    with pytest.raises(OutputError, match="cannot write"):
        save_torch_file(tmp_path / "no/x.pth", {})


def test_flags_without_effect_warn(caplog):
    with caplog.at_level(logging.WARNING):
        assert without_effect("--workers", "there are none")("8") == []
        assert without_effect("--save", "always")("") == []
    assert "--workers 8 has no effect: there are none" in caplog.text
    assert "--save has no effect: always" in caplog.text


def test_gpus():
    assert one_gpu("--gpu", "aim-train")("1") == ["--run.device", "cuda:1"]
    with pytest.raises(ConfigError, match=r"--gpu 0,1: .*--nproc-per-node 2 aim-train"):
        one_gpu("--gpu", "aim-train")("0,1")
    with pytest.raises(ConfigError, match="not so"):
        refuse("not so")
