"""sampler.json: the order of the images, drawn from given generators."""

import random

import numpy as np
import pytest

from reid_core.data.samplers import DistinctIdentitySampler


@pytest.fixture(scope="module")
def cases(golden):
    return golden.json("sampler.json")


def test_consecutive_epochs(cases):
    assert cases
    for case in cases:
        size, seed = case["num_instances"], case["seed"]
        ours = DistinctIdentitySampler(
            case["pid_of_index"], case["num_pids_per_batch"] * size, size, seed
        )
        shuffler, drawer = random.Random(seed), np.random.RandomState(seed)
        assert case["epochs"]
        for expected in case["epochs"]:
            assert ours.draw(shuffler, drawer).tolist() == expected
        assert ours.epoch(0).tolist() == case["epochs"][0]


def test_a_case_draws_with_replacement(cases):
    short = [
        case
        for case in cases
        if any(
            case["pid_of_index"].count(pid) < case["num_instances"] for pid in case["pid_of_index"]
        )
    ]
    assert short
