"""model.npz at test time: with raw golden weights, and calibrated so that features are spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.models import FlipEmbedding
from reid_core.testing.golden import assert_parity

# golden README: float64 by the largest value of an array; float32 raw features alike, the rest
# absolute.
FLOAT64 = 1e-6
RAW, CALIBRATED, ATTENTION, GRAMS = 2e-6, 5e-3, 5e-6, 5e-5
CHANNEL_STEP = 4  # of the raw features every fourth channel is kept


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("model.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("model.json")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(torch.float32, marks=pytest.mark.slow),
        pytest.param(torch.float64, marks=pytest.mark.slow),
    ],
    ids=["float32", "float64"],
)
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def batch(golden_batch, record, dtype):
    """The evaluation batch, one image without a face."""
    batch = golden_batch("eval.", record["B_eval"], dtype)
    batch.lr_face[record["eval_zero_lr_face_index"]] = 0
    return batch


@pytest.fixture(scope="module")
def raw(golden_network, record, dtype):
    """The network with golden weights; not to be changed."""
    return golden_network(record["K"], dtype).eval()


@pytest.fixture(scope="module")
def calibrated(golden_batch, golden_network, record, dtype):
    """The network after one training pass that sets all running statistics to the batch's."""
    network = golden_network(record["K"], dtype)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
    train = golden_batch("", record["B_train"], dtype)
    with torch.no_grad():
        network.train()(train.body, train.lr_face, train.hr_face)
    return network.eval()


@pytest.fixture(scope="module")
def inference(golden_network, calibrated, dtype):
    """The test-time network: neither teacher nor classifiers."""
    network = golden_network(None, dtype).eval()
    network.load_state_dict(calibrated.inference_state())
    return network


@pytest.fixture(scope="module")
def others(record):
    """The images with a face."""
    indices = [i for i in range(record["B_eval"]) if i != record["eval_zero_lr_face_index"]]
    return np.array(indices)


def by_part(embeddings, expected):
    """Return embeddings (B, P D) as the goldens have them: (B, D, P)."""
    return embeddings.view(len(embeddings), expected.shape[2], -1).transpose(1, 2)


def check(found, expected, what, dtype, tolerance):
    if dtype == torch.float64:
        assert_parity(found, expected, tolerance=FLOAT64, what=what)
    else:
        assert expected.size
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=what)


def test_raw_features(raw, batch, arrays, dtype):
    expected = arrays["eval_raw_ch0_step4"]
    with torch.inference_mode():
        found = by_part(raw.embed(batch.body, batch.lr_face), expected)[:, ::CHANNEL_STEP]
    tolerance = FLOAT64 if dtype == torch.float64 else RAW
    assert_parity(found, expected, tolerance=tolerance, what="eval_raw")


def test_calibrated_features(inference, batch, arrays, record, dtype):
    expected = arrays["eval_cal"]
    with torch.inference_mode():
        found = by_part(inference.embed(batch.body, batch.lr_face), expected)
        # The face parts come first, then those of the body; each stream alone gives its own.
        parts = inference.part_groups
        for name, start in (("face", 0), ("body", parts["face"])):
            alone = inference.part_network(name).embed(batch.body, batch.lr_face)
            assert torch.equal(
                alone.view(len(alone), parts[name], -1).transpose(1, 2),
                found[:, :, start : start + parts[name]],
            )
    check(found, expected, "eval_cal", dtype, CALIBRATED)
    faces = found[:, :, : parts["face"]]
    is_zero = (faces == 0).all(dim=1).all(dim=1)
    assert is_zero.nonzero().flatten().tolist() == [record["eval_zero_lr_face_index"]]


def test_attention(calibrated, batch, arrays, dtype):
    with torch.inference_mode():
        attention = calibrated(batch.body, batch.lr_face).body.attention
    check(attention, arrays["eval_cal_attn"], "attention", dtype, ATTENTION)


def grams(network, batch, flip):
    with torch.inference_mode():
        features = FlipEmbedding(network, flip)(
            batch.body, *[batch.lr_face][: len(network.companions)]
        )
    return (features @ features.T).numpy()


@pytest.mark.parametrize("flip", ["none", "sum"])
def test_similarities(inference, batch, arrays, record, others, dtype, flip):
    expected = arrays["gram_noflip" if flip == "none" else "gram_flip"]
    found = grams(inference, batch, flip)
    check(found[np.ix_(others, others)], expected[np.ix_(others, others)], flip, dtype, GRAMS)
    # Official: not a number. Ours: an image without a face is compared by its body alone.
    missing = record["eval_zero_lr_face_index"]
    assert np.isnan(expected[missing]).all()
    assert np.isnan(expected[:, missing]).all()
    body = grams(inference.part_network("body"), batch, flip)
    np.testing.assert_allclose(found[missing], body[missing], rtol=0, atol=GRAMS)
    np.testing.assert_allclose(found[:, missing], body[:, missing], rtol=0, atol=GRAMS)


def test_body_similarities(inference, batch, arrays, dtype):
    found = grams(inference.part_network("body"), batch, "none")
    check(found, arrays["gram_noflip_body"], "body", dtype, GRAMS)


def test_which_official_features_are_not_numbers(inference, batch, arrays):
    """Those of an image without a face: its parts are zero here, and divided by 0 there."""
    with torch.inference_mode():
        features = inference.embed(batch.body, batch.lr_face)
    parts = features.view(len(features), sum(inference.part_groups.values()), -1)
    has_zero_part = (parts == 0).all(dim=2).any(dim=1)
    assert has_zero_part.tolist() == arrays["feat_noflip_isnan_per_sample"].tolist()
