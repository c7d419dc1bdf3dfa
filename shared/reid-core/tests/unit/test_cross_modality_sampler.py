"""Batches of the same people in both modalities, and checks of the batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data.batching import check_cross_modality_batching
from reid_core.data.cross_modality_sampler import CrossModalitySampler
from reid_core.data.sample import Modality, Sample
from reid_core.errors import ConfigError


def make(visible: list[int], infrared: list[int]) -> list[Sample]:
    """Samples of these people, the modalities interleaved as far as they go."""
    modalities: dict[Modality, list[int]] = {"visible": visible, "infrared": infrared}
    samples = [
        (row, Sample(Path(f"{modality}/{row}"), pid, 0, modality=modality))
        for modality, pids in modalities.items()
        for row, pid in enumerate(pids)
    ]
    return [sample for _, sample in sorted(samples, key=lambda item: item[0])]


def loop_reference(samples: list[Sample], people: int, size: int, seed: int) -> list[list[int]]:
    """The first two epochs, drawn from the global generator as the official code does."""
    positions = {
        modality: [row for row, sample in enumerate(samples) if sample.modality == modality]
        for modality in ("visible", "infrared")
    }
    np.random.seed(seed)  # noqa: NPY002
    epochs = []
    for _ in range(2):
        order = []
        for _ in range(max(map(len, positions.values())) // (people * size) + 1):
            halves: list[list[int]] = [[], []]
            pids = np.unique([samples[row].pid for row in positions["visible"]])
            for pid in np.random.choice(pids, people, replace=False):  # noqa: NPY002
                for half, rows in zip(halves, positions.values(), strict=True):
                    own = [row for row in rows if samples[row].pid == pid]
                    half += np.random.choice(own, size).tolist()  # noqa: NPY002
            order += halves[0] + halves[1]
        epochs.append(order)
    return epochs


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_equals_a_plain_loop_for_any_number_of_processes(data: st.DataObject) -> None:
    num_pids = data.draw(st.integers(2, 6))
    more = st.lists(st.integers(0, num_pids - 1), max_size=20)
    every = list(range(num_pids))
    samples = make(every + data.draw(more), every + data.draw(more))
    people = data.draw(st.integers(2, num_pids))
    size = data.draw(st.integers(1, 3))
    seed = data.draw(st.integers(0, 2**31 - 1))
    world_size = data.draw(st.integers(1, 2))
    batch_size = 2 * people * size
    expected = loop_reference(samples, people, size, seed)
    num_batches = len(expected[0]) // batch_size
    if num_batches < world_size:
        with pytest.raises(ConfigError, match=f"use at most {num_batches} processes"):
            CrossModalitySampler(samples, batch_size, size, seed, 0, world_size)
        return
    for rank in range(world_size):
        sampler = CrossModalitySampler(samples, batch_size, size, seed, rank, world_size)
        # The later epoch first: it must not depend on what was asked for before.
        for epoch in (1, 0, 1):
            batches = np.array(expected[epoch]).reshape(-1, batch_size)
            dealt = batches[: num_batches // world_size * world_size][rank::world_size]
            order = sampler.epoch(epoch)
            assert order.tolist() == dealt.ravel().tolist()
            assert len(sampler) == len(order)


def test_rows_of_both_halves_are_the_same_people() -> None:
    samples = make([0, 1, 2, 0, 1, 2] * 4, [2, 1, 0] * 3)
    sampler = CrossModalitySampler(samples, 12, 3, seed=5)
    for batch in sampler.epoch(7).reshape(-1, 2, 2, 3):
        chosen = np.vectorize(lambda row: samples[row].pid)(batch)
        assert (chosen[0] == chosen[1]).all()
        assert (chosen[0] == chosen[0][:, :1]).all()
        assert chosen[0, 0, 0] != chosen[0, 1, 0]
        modalities = np.vectorize(lambda row: samples[row].modality)(batch)
        assert (modalities[0] == "visible").all()
        assert (modalities[1] == "infrared").all()


BOTH = make([0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize(
    ("samples", "arguments", "message"),
    [
        (BOTH, (20, 4), "batch_size=20 must be 2, 3, .* use 16 or 24"),
        (BOTH, (8, 4), "batch_size=8 must be .* use 16 or 24"),
        (BOTH, (16, 0), "num_instances=0 must be at least 1"),
        (BOTH, (16, 2), "holds 4 different identities, .* has 3; use a batch_size of at most 12"),
        (BOTH, (12, 2, 2), "give 1 batches .* use at most 1 processes"),
        (make([0, 1], []), (4, 1), "none of the 2 training images is infrared"),
        (make([], [0, 1]), (4, 1), "none of the 2 training images is visible"),
        (make([0, 1, 2], [0, 1, 3]), (4, 1), r"2 of 4 people .* \(labels 2, 3\) .* one modality"),
    ],
)
def test_refuses(samples: list[Sample], arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_cross_modality_batching(samples, *arguments)


@pytest.mark.parametrize(("seed", "rank"), [(-1, 0), (2**31, 0), (0, 1)])
def test_refuses_a_place_or_seed_that_cannot_be(seed: int, rank: int) -> None:
    with pytest.raises(ConfigError, match=r"seed=|rank="):
        CrossModalitySampler(BOTH, 4, 1, seed, rank)
