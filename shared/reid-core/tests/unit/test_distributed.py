"""Several processes as one run; the whole of a run is in test_run.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from reid_core.engine import (
    World,
    average_gradients,
    barrier,
    broadcast_buffers,
    broadcast_module,
    broadcast_object,
    gather_objects,
    main_first,
    process_group,
    read_world,
)
from reid_core.errors import ConfigError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def without(*names):
    return {name: value for name, value in TORCHRUN.items() if name not in names}


def test_world_of_torchrun():
    world = read_world(TORCHRUN)
    assert world == World(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert not world.is_main


def test_processes_are_taken_to_share_a_machine_unless_they_are_told_otherwise():
    assert read_world(without("LOCAL_WORLD_SIZE")).local_world_size == 4


@pytest.mark.parametrize("environment", [{}, {"LOCAL_RANK": "0"}, {"MASTER_ADDR": "x"}])
def test_one_process_alone(environment):
    assert read_world(environment) == World()
    assert World().is_main


@pytest.mark.parametrize("local_rank", [{"LOCAL_RANK": "0"}, {}], ids=["torchrun", "scheduler"])
def test_one_process_that_was_told_so(local_rank):
    assert read_world({"RANK": "0", "WORLD_SIZE": "1", **local_rank}) == World()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (without("LOCAL_RANK"), "lacks LOCAL_RANK; start them with: torchrun"),
        (without("WORLD_SIZE"), "lacks WORLD_SIZE"),
        (without("MASTER_ADDR", "MASTER_PORT"), "lacks MASTER_ADDR, MASTER_PORT"),
        (TORCHRUN | {"RANK": "4"}, "RANK=4, WORLD_SIZE=4, .* RANK below WORLD_SIZE"),
        (TORCHRUN | {"RANK": "x"}, "RANK=x"),
        (TORCHRUN | {"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1"),
        (TORCHRUN | {"WORLD_SIZE": ""}, "lacks WORLD_SIZE"),
    ],
)
def test_broken_environment(environment, message):
    with pytest.raises(ConfigError, match=message):
        read_world(environment)


def test_nothing_happens_alone():
    net = nn.BatchNorm1d(2)
    net(torch.randn(4, 2)).square().sum().backward()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradient = net.weight.grad.clone()
    with process_group(World(), torch.device("cpu")):
        assert not torch.distributed.is_initialized()
        broadcast_module(net)
        broadcast_buffers(net)
        average_gradients(net.parameters())
        barrier()
        assert broadcast_object(5) == 5
        assert gather_objects(5) == [5]
        with main_first(World()):
            pass
    assert torch.equal(net.weight.grad, gradient)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_collectives_of_two_processes(tmp_path, start_pair):
    script = Path(__file__).with_name("collectives.py")
    assert start_pair(script, together=str(tmp_path / "together")) == [0, 0]
