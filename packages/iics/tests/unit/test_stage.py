"""What lives for one stage, through a checkpoint and back."""

import numpy as np
import pytest
import torch

from reid_core.errors import CheckpointError
from reid_iics.config import IICSConfig, InterConfig
from reid_iics.cycle import Place
from reid_iics.model import IICS
from reid_iics.pseudo_labels import PseudoLabels
from reid_iics.stage import Stage
from reid_iics.step import InterStep, IntraStep

CONFIG = IICSConfig(inter=InterConfig(batch_size=128))
IMAGES = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def labels(num_clusters, camid=None):
    images = np.arange(6)
    return PseudoLabels(
        images=images, labels=images % num_clusters, num_clusters=num_clusters, camid=camid
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return IICS(backbone="resnet10").train()


def train(stage, model):
    """Take one step, so that momentum and statistics of the heads are there."""
    if stage.name == "intra":
        IntraStep(model, stage.heads, stage.optimizer)(
            IMAGES.split(4), (torch.arange(8) % 2).split(4)
        )
    else:
        InterStep(model, next(iter(stage.heads)), stage.optimizer)(IMAGES, torch.arange(8) % 2)


@pytest.mark.parametrize(
    ("place", "parts", "lr"),
    [
        (Place(3, "intra", 12, False), [labels(3, 5), labels(2, 7)], 0.005),
        (Place(3, "inter", 14, False), [labels(4)], 0.02),
    ],
)
def test_a_stage_returns_from_its_state(model, place, parts, lr):
    stage = Stage(model, CONFIG)
    stage.begin(place, parts, num_images=9)
    assert [group["lr"] for group in stage.optimizer.param_groups] == pytest.approx([lr / 10, lr])
    train(stage, model)
    state = stage.state_dict()

    found = Stage(model, CONFIG)
    found.load_state_dict(state)
    assert (found.name, found.first) == (place.stage, place.first)
    for expected, part in zip(parts, found.labels, strict=True):
        assert (part.num_clusters, part.camid) == (expected.num_clusters, expected.camid)
        assert np.array_equal(part.labels, expected.labels)
        assert np.array_equal(part.images, expected.images)
    found.require_images(9)
    with pytest.raises(CheckpointError, match="labels of 9 training images, and 8 can be read"):
        found.require_images(8)
    for name, value in state["heads"].items():
        assert torch.equal(found.heads.state_dict()[name], value), name
    moments = state["optimizer"]["state"]
    assert moments
    for number, values in moments.items():
        restored = found.optimizer.state_dict()["state"][number]
        assert torch.equal(restored["momentum_buffer"], values["momentum_buffer"])


def test_nothing_is_carried_over_to_the_next_stage(model):
    stage = Stage(model, CONFIG)
    stage.begin(Place(0, "intra", 0, False), [labels(3, 0), labels(2, 1)], num_images=9)
    train(stage, model)
    heads = stage.heads
    stage.begin(Place(0, "inter", 2, False), [labels(5)], num_images=9)
    assert stage.heads is not heads
    assert [len(head[1].weight) for head in stage.heads] == [5]
    assert not stage.optimizer.state_dict()["state"]
    assert set(model.parameters()) <= set(stage.optimizer.param_groups[0]["params"])


def test_before_the_first_stage(model):
    stage = Stage(model, CONFIG)
    assert stage.first == -1
    stage.load_state_dict(stage.state_dict())
    assert stage.first == -1
