"""Collective operations of two processes; a script, started by tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from reid_core.engine import distributed


def check_broadcast(rank: int) -> None:
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    net[1].running_mean.fill_(rank + 5)
    net[1].num_batches_tracked.fill_(rank + 7)
    distributed.broadcast_module(net)
    states = distributed.gather_objects(net.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert net[1].running_mean[0] == 5
    assert net[1].num_batches_tracked == 7

    net[1].running_var.fill_(rank + 2)
    with torch.no_grad():
        net[0].bias.fill_(rank)
    distributed.broadcast_buffers(net)
    assert net[1].running_var[0] == 2
    assert net[0].bias[0] == rank, "parameters are not buffers"


def check_gradients(rank: int, bucket_bytes: int) -> None:
    distributed.BUCKET_BYTES = bucket_bytes
    generator = torch.Generator().manual_seed(rank)
    parameters = [
        nn.Parameter(torch.zeros(3, 4)),
        nn.Parameter(torch.zeros(5, dtype=torch.float64)),
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)),
    ]
    for index, parameter in enumerate(parameters):
        if index != 2:
            parameter.grad = torch.randn(
                parameter.shape, dtype=parameter.dtype, generator=generator
            ).contiguous()
    every = distributed.gather_objects([parameter.grad for parameter in parameters])
    distributed.average_gradients(iter(parameters))
    assert parameters[2].grad is None
    for index in (0, 1, 3):
        expected = (every[0][index] + every[1][index]) / 2
        assert torch.equal(parameters[index].grad, expected), index


def check_objects(rank: int, world: distributed.World) -> None:
    assert distributed.broadcast_object(f"from {rank}") == "from 0"
    assert distributed.gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    distributed.barrier()
    path = Path(os.environ["TOGETHER"])
    with distributed.main_first(world):
        assert path.exists() == (rank == 1)
        path.touch()


def check_failure(rank: int, world: distributed.World) -> None:
    kind, message = (KeyError, "oops") if rank == 0 else (distributed.PeerError, "KeyError: 'oops'")
    with pytest.raises(kind, match=message), distributed.main_first(world):
        raise KeyError("oops")


def check_inner_run(rank: int, world: distributed.World) -> None:
    """A run inside the run uses its group, and leaves it as it was."""
    with distributed.process_group(world, torch.device("cpu")):
        assert distributed.gather_objects(rank) == [0, 1]
    assert distributed.is_active()
    assert distributed.gather_objects(rank + 1) == [1, 2]


def main(args: dict) -> None:
    os.environ.update(args["environment"])
    torch.set_num_threads(1)
    world = distributed.read_world()
    with distributed.process_group(world, torch.device("cpu")):
        check_broadcast(world.rank)
        check_gradients(world.rank, 25 * 2**20)
        check_gradients(world.rank, 8)
        os.environ["TOGETHER"] = args["together"]
        check_objects(world.rank, world)
        check_inner_run(world.rank, world)
        check_failure(world.rank, world)


if __name__ == "__main__":
    main(ARGS)  # noqa: F821 - given by the test
