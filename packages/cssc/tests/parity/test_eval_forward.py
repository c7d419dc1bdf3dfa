"""model.npz: the test-time network with raw golden weights, and calibrated so that gates matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.models import FlipEmbedding
from reid_core.testing.golden import assert_parity, fill_module, needs_golden_order
from reid_cssc.model import CSSC

SMR_BLOCKS = ("smr_c_branch1", "smr_s_branch1", "smr_s_branch2", "smr_c_branch2")

# Per precision, as in the golden README: raw features relative to the largest; the rest absolute.
# It states none for the gates, which it holds in float32 only, 3e-5 from float64's: in float64
# theirs is that of the float32 features, 2e-3 of values up to 25, as a share.
RAW = {torch.float32: 1e-3, torch.float64: 1e-9}
EMBEDDING = {torch.float32: 1e-5, torch.float64: 1e-10}
FEATURES = {torch.float32: 2e-3, torch.float64: 1e-8}
GATES = {torch.float32: 1e-5, torch.float64: 2e-3 / 25}
SUFFIX = {torch.float32: "", torch.float64: "_f64"}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("model.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("model.json")


@pytest.fixture(
    scope="module",
    params=[torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)],
    ids=["float32", "float64"],
)
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def images(golden_images, arrays, dtype):
    return golden_images("eval.images", len(arrays["raw_feat"])).to(dtype)


@pytest.fixture(scope="module")
def raw(record, dtype):
    """The whole network with golden weights; not to be changed."""
    network = CSSC(record["num_classes"])
    fill_module(network, "")
    return network.to(dtype)


@pytest.fixture(scope="module")
def calibrated(golden_images, record, raw, dtype):
    """The network after one forward pass that sets all running statistics to the batch's."""
    network = CSSC(record["num_classes"]).to(dtype)
    network.load_state_dict(raw.state_dict())
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
    images = golden_images("train.images", len(record["labels"])).to(dtype)
    with torch.no_grad():
        network.train()(images)
    return network.eval()


@pytest.fixture(scope="module")
def gates(dtype):
    """The gates of each block, of this type's network alone."""
    return {}


@pytest.fixture(scope="module")
def features(calibrated, images, gates):
    """Calibrated features of the images and of their mirror images, by the test-time network."""
    network = CSSC(None).to(images.dtype).eval()
    network.load_state_dict(calibrated.inference_state())
    for name in SMR_BLOCKS:

        def keep(module, inputs, output, name=name):
            gates.setdefault(name, output)

        network.get_submodule(name).refinement.register_forward_hook(keep)
    with torch.inference_mode():
        return network.embed(images), network.embed(images.flip(3))


def check(found, expected, tolerance, what):
    """Compare within an absolute tolerance; the goldens hold the first channels."""
    found = found[:, : expected.shape[1]].double().numpy()
    assert expected.size, what
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=what)


def test_raw_features(raw, images, arrays, dtype):
    if dtype == torch.float32:
        needs_golden_order()
    name = f"raw_feat{SUFFIX[dtype]}"
    expected = arrays[name]
    with torch.inference_mode():
        found = raw.eval().embed(images)[:, : expected.shape[1]]
    assert_parity(found, expected, tolerance=RAW[dtype], what=name)


def test_calibrated_running_statistics(calibrated, record, running_norms):
    expected = record["cal_running_stats"]
    assert running_norms(calibrated) == {
        name: pytest.approx(norms, rel=1e-4) for name, norms in expected.items()
    }


def test_calibrated_features(features, arrays, dtype):
    plain, mirrored = features
    check(plain, arrays[f"cal_feat{SUFFIX[dtype]}"], FEATURES[dtype], "cal_feat")
    check(mirrored, arrays["cal_feat_flip"], FEATURES[torch.float32], "cal_feat_flip")


def test_gates(features, gates, arrays, dtype):
    if dtype == torch.float32:
        needs_golden_order()
    assert set(gates) == set(SMR_BLOCKS)
    for name, gate in gates.items():
        expected = arrays[f"cal_gate_{name}"]
        assert 0.05 < expected.mean() < 0.95, "the calibrated gates are not saturated"
        check(gate, expected, GATES[dtype], name)


def test_embeddings(calibrated, images, arrays, dtype):
    with torch.inference_mode():
        found = FlipEmbedding(calibrated)(images)
    check(found, arrays[f"cal_embedding{SUFFIX[dtype]}"], EMBEDDING[dtype], "cal_embedding")
