"""Choice of device and precision, and the numeric switches."""

from __future__ import annotations

import logging

import pytest
import torch

from reid_core.engine import autocast, choose_device, choose_precision
from reid_core.engine.device import numeric_settings
from reid_core.errors import ConfigError


@pytest.fixture
def no_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_without_gpu(no_devices):
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "local_rank", "expected"),
    [
        ("auto", 0, "cuda:0"),
        ("auto", 1, "cuda:1"),
        ("cuda", 1, "cuda:1"),
        ("cuda:1", 0, "cuda:1"),
        ("cpu", 1, "cpu"),
    ],
)
def test_device_with_gpus(two_gpus, name, local_rank, expected):
    assert choose_device(name, local_rank=local_rank) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "run.device='gpu' is unknown; use auto, cpu, cuda"),
        ("cpu:0", "is unknown"),
        ("cuda:x", "needs a device number"),
        ("cuda:-1", "needs a device number"),
        ("cuda", "use --device cpu"),
        ("cuda:0", "use --device cpu"),
        ("mps", "has no MPS; use cpu"),
    ],
)
def test_absent_device(no_devices, name, message):
    with pytest.raises(ConfigError, match=message):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "local_rank", "world_size", "message"),
    [
        (
            "cuda:2",
            0,
            1,
            r"run.device=cuda:2 needs GPU 2, but only 2 GPU\(s\) are visible \(0..1\)",
        ),
        ("cuda", 2, 3, "process 2 of this machine needs GPU 2"),
        ("cuda:0", 0, 2, "would put 2 processes on one GPU; use --device cuda"),
    ],
)
def test_gpu_out_of_reach(two_gpus, name, local_rank, world_size, message):
    with pytest.raises(ConfigError, match=message):
        choose_device(name, local_rank=local_rank, world_size=world_size)


def test_bf16_on_cpu_is_fp32_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_precision("bf16", torch.device("cpu")) == "fp32"
    assert "run.precision=bf16 has no effect on cpu" in caplog.text


@pytest.mark.parametrize("name", ["fp16", "float32", ""])
def test_unsupported_precision(name):
    with pytest.raises(ConfigError, match="use fp32 or bf16"):
        choose_precision(name, torch.device("cpu"))


def test_bf16_needs_hardware(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with pytest.raises(ConfigError, match="Tesla V100 has no bf16 arithmetic; use fp32"):
        choose_precision("bf16", torch.device("cuda", 0))


@pytest.mark.gpu
def test_autocast_on_cuda():
    device = torch.device("cuda", 0)
    layer = torch.nn.Linear(2, 2, device=device)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(device, precision):
            assert layer(torch.ones(1, 2, device=device)).dtype == dtype


@pytest.mark.parametrize("deterministic", [True, False])
def test_numeric_settings(deterministic):
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark, torch.get_num_threads())
    with numeric_settings(deterministic=deterministic, threads=3):
        assert cudnn.deterministic == deterministic
        assert cudnn.benchmark != deterministic
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.get_num_threads() == 3
    assert (cudnn.deterministic, cudnn.benchmark, torch.get_num_threads()) == before
    assert not torch.are_deterministic_algorithms_enabled()
