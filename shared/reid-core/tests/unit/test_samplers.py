"""Order of identity chunks, shards, and checks of the batch size."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data.batching import check_batching, check_distinct_batching
from reid_core.data.samplers import (
    DistinctIdentitySampler,
    IdentityChunkSampler,
    inference_indices,
)
from reid_core.errors import ConfigError

pid_lists = st.lists(st.integers(0, 6), min_size=1, max_size=60)


def loop_reference(pids: list[int], size: int, seed: int) -> list[list[int]]:
    """All chunks of an epoch, drawn from the global generators as the official code does."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    chunks = []
    for pid in dict.fromkeys(pids):
        indices = [i for i, other in enumerate(pids) if other == pid]
        if len(indices) < size:
            indices = list(np.random.choice(indices, size=size, replace=True))  # noqa: NPY002
        random.shuffle(indices)
        while len(indices) >= size:
            chunks.append([int(i) for i in indices[:size]])
            indices = indices[size:]
    random.shuffle(chunks)
    return chunks


@settings(deadline=None)
@given(pid_lists, st.integers(1, 9), st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_equals_a_plain_loop(pids: list[int], size: int, seed: int, world_size: int) -> None:
    chunks = loop_reference(pids, size, seed)
    chunks = chunks[: len(chunks) // world_size * world_size]
    for rank in range(world_size):
        sampler = IdentityChunkSampler(pids, size, seed, rank, world_size)
        expected = [i for chunk in chunks[rank::world_size] for i in chunk]
        order = sampler.epoch(0)
        assert order.tolist() == expected
        assert order.dtype == np.int64
        assert len(sampler) == len(expected)


@settings(deadline=None)
@given(pid_lists, st.integers(1, 9), st.integers(0, 50))
def test_chunks_hold_one_identity_and_images_once(pids: list[int], size: int, epoch: int) -> None:
    order = IdentityChunkSampler(pids, size, seed=3).epoch(epoch)
    counts = Counter(pids)
    for chunk in order.reshape(-1, size):
        (pid,) = {pids[i] for i in chunk}
        if counts[pid] >= size:
            assert len(set(chunk.tolist())) == size
    used = Counter(order.tolist())
    assert all(n == 1 for i, n in used.items() if counts[pids[i]] >= size)


def test_stateless_and_different_in_every_epoch() -> None:
    pids = [i // 10 for i in range(100)]
    sampler = IdentityChunkSampler(pids, 4, seed=5)
    first = sampler.epoch(3).tolist()
    other = sampler.epoch(4).tolist()
    assert sampler.epoch(3).tolist() == first != other
    # Epoch e with seed s is epoch 0 with seed s + e: the official seeding.
    assert IdentityChunkSampler(pids, 4, seed=8).epoch(0).tolist() == first


def loop_distinct(pids: list[int], batch: int, size: int, seed: int) -> list[int]:
    """An epoch of batches of different identities, from the global generators (official)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    chunks: dict[int, list[list[int]]] = {}
    for pid in dict.fromkeys(pids):
        indices = [i for i, other in enumerate(pids) if other == pid]
        if len(indices) < size:
            indices = list(np.random.choice(indices, size=size, replace=True))  # noqa: NPY002
        random.shuffle(indices)
        full = len(indices) - len(indices) % size
        chunks[pid] = [[int(i) for i in indices[j : j + size]] for j in range(0, full, size)]
    left, order = list(chunks), []
    while len(left) >= batch // size:
        for pid in random.sample(left, batch // size):
            order += chunks[pid].pop(0)
            if not chunks[pid]:
                left.remove(pid)
    return order


@settings(deadline=None)
@given(pid_lists, st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_distinct_equals_a_plain_loop(
    pids: list[int], size: int, num_chosen: int, seed: int
) -> None:
    batch = size * num_chosen
    num_pids = len(set(pids))
    if num_pids < max(num_chosen, 2):
        with pytest.raises(ConfigError):
            DistinctIdentitySampler(pids, batch, size, seed)
        return
    sampler = DistinctIdentitySampler(pids, batch, size, seed)
    order = sampler.epoch(0)
    assert order.tolist() == loop_distinct(pids, batch, size, seed)
    assert order.dtype == np.int64
    assert batch <= len(sampler) <= len(order)
    assert len(sampler) == batch * check_distinct_batching(pids, batch, size)
    for members in np.array(pids)[order].reshape(-1, num_chosen, size).tolist():
        assert all(len(set(chunk)) == 1 for chunk in members)
        assert len({chunk[0] for chunk in members}) == num_chosen


@settings(deadline=None)
@given(pid_lists, st.integers(1, 3), st.integers(1, 4), st.integers(2, 3), st.integers(0, 50))
def test_distinct_batches_are_dealt_to_processes(
    pids: list[int], size: int, num_chosen: int, world_size: int, epoch: int
) -> None:
    batch = size * num_chosen
    try:
        shares = [
            DistinctIdentitySampler(pids, batch, size, 3, rank, world_size)
            for rank in range(world_size)
        ]
    except ConfigError:
        return
    whole = DistinctIdentitySampler(pids, batch, size, 3).epoch(epoch).reshape(-1, batch)
    whole = whole[: len(whole) // world_size * world_size]
    for rank, share in enumerate(shares):
        mine = share.epoch(epoch)
        assert mine.tolist() == whole[rank::world_size].flatten().tolist()
        assert batch <= len(share) <= len(mine)


def test_distinct_is_stateless_and_different_in_every_epoch() -> None:
    pids = [i // 10 for i in range(100)]
    sampler = DistinctIdentitySampler(pids, 16, 4, seed=5)
    first = sampler.epoch(3).tolist()
    assert sampler.epoch(4).tolist() != first == sampler.epoch(3).tolist()
    assert DistinctIdentitySampler(pids, 16, 4, seed=8).epoch(0).tolist() == first


def test_distinct_leaves_the_global_generators_alone() -> None:
    state, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    DistinctIdentitySampler([0, 0, 1, 2], 6, 3, seed=1).epoch(0)
    assert random.getstate() == state
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("pids", "arguments", "message"),
    [
        ([0, 1] * 9, {"batch_size": 6}, "batch_size=6 is not a multiple of num_instances=4"),
        ([0, 1] * 9, {"rank": 1}, r"rank=1 is not one of 0\.\.0"),
        ([0, 1] * 9, {"seed": -1}, "seed=-1 is out of range"),
        ([0] * 9, {}, "has 1 identities"),
        ([0, 1] * 9, {"batch_size": 12}, "holds 3 different identities, and the training split"),
        ([0, 1] * 9, {"batch_size": 12}, "use a batch_size of at most 8, or a larger num_inst"),
        ([0, 1] * 4, {"world_size": 2}, "8 images of 2 identities are sure to give 1 batches"),
        ([0, 1] * 4, {"world_size": 2}, "use at most 1 processes"),
    ],
)
def test_distinct_arguments(pids: list[int], arguments: dict[str, Any], message: str) -> None:
    given_ones = {"batch_size": 8, "num_instances": 4, "seed": 1, **arguments}
    with pytest.raises(ConfigError, match=message):
        DistinctIdentitySampler(pids, **given_ones)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_instances": 0}, "num_instances=0 must be at least 1"),
        ({"world_size": 0}, "world_size=0 must be at least 1"),
        ({"rank": 2, "world_size": 2}, r"rank=2 is not one of 0\.\.1"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"seed": 2**31}, "seed=2147483648 is out of range"),
    ],
)
def test_sampler_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IdentityChunkSampler([0, 0, 1, 1], **{"num_instances": 2, "seed": 1, **arguments})


@settings(deadline=None)
@given(pid_lists, st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
def test_check_batching_counts_what_the_sampler_gives(
    pids: list[int], size: int, chunks_per_batch: int, world_size: int
) -> None:
    batch_size = size * chunks_per_batch
    length = len(IdentityChunkSampler(pids, size, 1, 0, world_size))
    if len(set(pids)) < 2 or length < batch_size:
        with pytest.raises(ConfigError):
            check_batching(pids, batch_size, size, world_size)
    else:
        assert check_batching(pids, batch_size, size, world_size) == length // batch_size


@pytest.mark.parametrize(
    ("pids", "batch_size", "num_instances", "world_size", "message"),
    [
        ([0, 1] * 50, 30, 8, 1, "batch_size=30 is not a multiple of num_instances=8; use batch_"),
        ([0, 1] * 50, 30, 8, 1, "size 24 or 32"),
        ([0, 1] * 50, 4, 8, 1, "use batch_size 8, or a num_instances that divides 4"),
        ([0, 1] * 50, 0, 8, 1, "batch_size=0 must be at least 1"),
        ([0, 1] * 50, 32, -8, 1, "num_instances=-8 must be at least 1"),
        ([5] * 100, 32, 8, 1, "has 1 identities (100 images)"),
        ([], 32, 8, 1, "has 0 identities (0 images)"),
        ([0, 1] * 8, 32, 8, 1, "batch_size=32 is larger than the data: 16 images of 2 identities"),
        ([0, 1] * 8, 32, 8, 1, "give 2 chunks of num_instances=8, which is 16 images per epoch"),
        ([0, 1] * 8, 32, 8, 1, "use a batch_size of at most 16"),
        ([0, 1] * 8, 16, 8, 2, "8 images per epoch for each of 2 process(es)"),
        ([0, 1] * 8, 16, 8, 3, "use at most 2 processes, or more images"),
    ],
)
def test_batch_sizes_that_cannot_work(
    pids: list[int], batch_size: int, num_instances: int, world_size: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_batching(pids, batch_size, num_instances, world_size)
    assert message in str(caught.value)


@given(st.integers(1, 50), st.integers(1, 7))
def test_shards_put_together_are_the_list(num_images: int, world_size: int) -> None:
    shards = [inference_indices(num_images, rank, world_size) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    together = np.concatenate(shards)
    assert together[:num_images].tolist() == list(range(num_images))
    assert set(together[num_images:].tolist()) <= {num_images - 1}


def test_shards_of_nothing() -> None:
    assert inference_indices(0, 1, 2).tolist() == []
