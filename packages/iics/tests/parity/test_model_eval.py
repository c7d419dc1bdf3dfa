"""model_eval.npz: the network in evaluation mode, its heads and their scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.models import FlipEmbedding
from reid_core.testing.golden import assert_parity
from reid_iics.model import IICS, Head, Heads

TOLERANCE = 1e-5  # golden README
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
MODULES = {"stem": "maxpool"}  # the stem is measured after pooling
STEM_STRIDE = 4


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("model_eval.npz")


@pytest.fixture(scope="module")
def images(golden_input, arrays):
    num_images, _, height, width = arrays["stage.stem.mean_std_shape"][2:].astype(int)
    return golden_input("input.images", (num_images, 3, height * STEM_STRIDE, width * STEM_STRIDE))


@pytest.fixture(scope="module")
def network(fill_network):
    return fill_network(IICS()).eval()


@pytest.fixture(scope="module")
def heads(arrays, network, fill_network):
    names = sorted(key for key in arrays if key.startswith("intra_logits."))
    heads = Heads(network.embedding_dim, [arrays[name].shape[1] for name in names])
    return fill_network(heads, "classifier.").eval()


@pytest.fixture(scope="module")
def outputs(network, images):
    """Features of the images, and shape, mean and deviation after each stage."""
    figures = {}

    def watch(name):
        def measure(module, inputs, output):
            values = output.double()
            figures[name] = [values.mean().item(), values.std().item(), *values.shape]

        return network.model.get_submodule(MODULES.get(name, name)).register_forward_hook(measure)

    hooks = [watch(name) for name in STAGES]
    with torch.inference_mode():
        features = network(images)
    for hook in hooks:
        hook.remove()
    return features, figures


@pytest.fixture(scope="module")
def flipped(network, images):
    with torch.inference_mode():
        return network.embed_flipped(images)


def test_features(outputs, arrays):
    assert_parity(outputs[0], arrays["gap"], tolerance=TOLERANCE, what="gap")


@pytest.mark.parametrize("stage", STAGES)
def test_stage(outputs, arrays, stage):
    mean, deviation, *shape = outputs[1][stage]
    expected = arrays[f"stage.{stage}.mean_std_shape"]
    assert shape == list(expected[2:])
    assert [mean, deviation] == pytest.approx(list(expected[:2]), rel=TOLERANCE)


def test_flip_averaged_features(flipped, network, images, arrays):
    assert_parity(flipped, arrays["feat_flip_mean"], tolerance=TOLERANCE, what="mean")
    with torch.inference_mode():
        found = FlipEmbedding(network)(images)
    assert_parity(found, arrays["feat_flip_mean_l2"], tolerance=TOLERANCE, what="test feature")


def test_head_of_the_inter_camera_stage(outputs, arrays, fill_network):
    expected = arrays["logits16"]
    head = fill_network(Head(outputs[0].shape[1], expected.shape[1]), "classifier.").eval()
    with torch.inference_mode():
        assert_parity(head(outputs[0]), expected, tolerance=TOLERANCE, what="logits16")


def test_heads_of_the_intra_camera_stage(flipped, heads, outputs, arrays):
    with torch.inference_mode():
        for number, head in enumerate(heads):
            name = f"intra_logits.{number}"
            assert_parity(head(flipped), arrays[name], tolerance=TOLERANCE, what=name)
        found = heads.scores(flipped)
        assert_parity(found, arrays["intra_scores"], tolerance=TOLERANCE, what="scores")
        assert_parity(
            heads[1](outputs[0]), arrays["intra_forward_k1"], tolerance=TOLERANCE, what="head 1"
        )


def test_last_stride_two(images, arrays, fill_network):
    network = fill_network(IICS(last_stride=2)).eval()
    with torch.inference_mode():
        found = network(images).double().sum(dim=1)
    expected = arrays["gap_stride2_sum"]
    assert_parity(found, expected, tolerance=TOLERANCE, what="sums at stride 2")


def test_float64(images, arrays, fill_network):
    """The rounding error of the official float32 features, measured by our float64 ones."""
    network = fill_network(IICS()).double().eval()
    with torch.inference_mode():
        exact = network(images.double()).numpy()
    error = np.abs(arrays["gap"] - exact).max() / np.abs(exact).max()
    assert error == pytest.approx(float(arrays["float32_vs_float64_gap_maxrel"]), rel=1e-3)
