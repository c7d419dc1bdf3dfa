"""eval_forward.npz: every output of the six modules in eval mode, at both image sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_aim.model import AIM
from reid_aim.weights import PARTS
from reid_core.models import FlipEmbedding
from reid_core.testing.golden import assert_parity, fill_images, fill_module

TOLERANCE = 1e-5  # golden README: max|diff| <= 1e-5 * max|ref| per array, in float32

# Prefix: image height and width, and every how many features are stored (golden README).
SIZES = {"full": (384, 192, 2), "small": (128, 64, 4)}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("eval_forward.npz")


@pytest.fixture(scope="module")
def network(arrays):
    num_pids, num_clothes = (
        arrays[name].shape[1] for name in ("small_id_logits", "small_clothes_cos")
    )
    network = AIM(num_pids=num_pids, num_clothes=num_clothes)
    for part in PARTS:
        fill_module(network.get_submodule(part), part)
    return network.eval()


@pytest.fixture(scope="module", params=list(SIZES))
def size(request):
    return request.param


@pytest.fixture(scope="module")
def found(size, network, arrays, golden):
    """All arrays of one image size, under their golden names."""
    height, width, step = SIZES[size]
    name = golden.input_name(f"images_{size}")
    images = torch.from_numpy(fill_images(name, len(arrays[f"{size}_feat"]), height, width))
    with torch.inference_mode():
        out = network(images)
        embeddings = FlipEmbedding(network)(images)
    # The goldens hold a 4 x 2 grid of each map.
    map_height, map_width = out.feature_map.shape[2:]
    rows, columns = max(1, map_height // 4), max(1, map_width // 2)
    return {
        "base": out.feature_map[:, ::64, ::rows, ::columns],
        "base2": out.clothes_map[:, ::64, ::rows, ::columns],
        "feat": out.features[:, ::step],
        "feat_test": embeddings[:, ::step],
        "feat2": out.clothes_features[:, ::8],
        "fused": out.fused_features[:, ::8],
        "id_logits": out.logits,
        "id_logits_fused": out.fused_logits,
        "clothes_cos": out.clothes_logits,
        "clothes_cos2": out.clothes_logits2,
        "test_distmat": -embeddings @ embeddings.T,
    }


def test_every_array_matches(size, found, arrays):
    expected = {name for name in arrays if name.startswith(f"{size}_")}
    assert {f"{size}_{name}" for name in found} == expected
    for name, value in found.items():
        assert_parity(value, arrays[f"{size}_{name}"], tolerance=TOLERANCE, what=f"{size}_{name}")


def test_no_array_of_the_file_is_left_out(arrays):
    assert {name.split("_")[0] for name in arrays} == set(SIZES)


def test_embeddings_have_unit_length(found, size):
    # The stored distance of an image to itself is minus its squared length.
    assert np.allclose(found["test_distmat"].diagonal(), -1, atol=1e-5), size
