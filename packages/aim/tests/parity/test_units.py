"""units.npz and units.json: fusion, clothing head, poolings and every loss, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reid_aim.losses import (
    clothes_loss,
    counterfactual_logits,
    identity_loss,
    pair_loss,
    symmetric_kl,
)
from reid_aim.model import ClothingBranch, Fusion
from reid_core.losses import clothes_adversarial, cosface
from reid_core.models import build_pooling
from reid_core.testing.golden import assert_parity, fill, fill_module

TOLERANCE = 1e-7  # golden README: relative, in float64

# What the golden README fixes and no array shows: size of the maps, width of the loss features.
CHANNELS, MAP = 2048, (8, 4)
ODD_MAP = (10, 3)
POOL_MAP = (6, 3)
LOSS_DIM = 32


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("units.npz")


@pytest.fixture(scope="module")
def values(golden):
    return golden.json("units.json")


def double(name, shape):
    return torch.from_numpy(fill(name, shape)).double()


def norms(inputs, module, out, cotangent):
    """Gradient norms of sum(out * cotangent) with respect to inputs and parameters."""
    tensors = {**inputs, **dict(module.named_parameters())}
    gradients = torch.autograd.grad((out * cotangent).sum(), list(tensors.values()))
    return {name: float(value.norm()) for name, value in zip(tensors, gradients, strict=True)}


def assert_norms(found, expected, what):
    assert expected, what
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=TOLERANCE), f"{what}: {name}"


@pytest.fixture(scope="module")
def fusion_results(golden, arrays):
    """Outputs, gradients and statistics of the fusion, in the order the goldens were made."""
    count, width = arrays["fuse_eval_out"].shape
    names = {"feat": "fuse_feat", "feat2": "fuse_feat2"}
    maps = {
        key: double(golden.input_name(name), (count, CHANNELS, *MAP)).abs().requires_grad_()
        for key, name in names.items()
    }
    fusion = Fusion(num_channels=CHANNELS, embedding_dim=width)
    fill_module(fusion, "fuse_small")
    fusion.double()
    cotangent = double(golden.input_name("fuse_cot"), (count, width))
    results = {}
    for mode in ("eval", "train"):
        fusion.train(mode == "train")
        out = fusion(*maps.values())
        results[f"fuse_{mode}_out"] = out.detach()
        results[f"fuse_{mode}_grad_norms"] = norms(maps, fusion, out, cotangent)
    bn, attention = fusion.bn, fusion.attentions.bn
    results["fuse_bn_running_mean_after_one_train_forward"] = bn.running_mean.clone()
    results["fuse_bn_running_var_after_one_train_forward"] = bn.running_var.clone()
    results["fuse_attbn_running_mean_after"] = attention.running_mean.clone()
    results["fuse_attbn_running_var_after"] = attention.running_var.clone()
    nn.init.constant_(attention.bias, -100)
    fusion.eval()
    out = fusion(*maps.values())
    results["fuse_dead_attention_out"] = out.detach()
    results["fuse_dead_attention_grad_feat_norm"] = norms(maps, fusion, out, cotangent)["feat"]
    return results


@pytest.fixture(scope="module")
def head_results(golden, arrays):
    """Outputs, gradients and keys of the clothing head, in the order the goldens were made."""
    count, width = arrays["pmhead_eval_out"].shape
    head = ClothingBranch(nn.Identity(), num_channels=CHANNELS, embedding_dim=width)
    fill_module(head, "pmhead")
    head.double()
    feat = double(golden.input_name("fuse_feat"), (count, CHANNELS, *MAP)).abs().requires_grad_()
    cotangent = double(golden.input_name("fuse_cot"), (count, width))
    results = {"keys": [[key, list(item.shape)] for key, item in head.state_dict().items()]}
    for mode in ("eval", "train"):
        head.train(mode == "train")
        out = head(feat).features
        results[f"pmhead_{mode}_out"] = out.detach()
        results[f"pmhead_{mode}_grad_norms"] = norms({"feat": feat}, head, out, cotangent)
    odd_count = len(arrays["pmhead_odd_rows_eval_out"])
    odd_rows = double(golden.input_name("pm_odd"), (odd_count, CHANNELS, *ODD_MAP)).abs()
    head.eval()
    with torch.no_grad():
        results["pmhead_odd_rows_eval_out"] = head(odd_rows).features
    return results


def test_fusion_outputs_and_running_statistics(fusion_results, arrays):
    names = [name for name in arrays if name.startswith("fuse_")]
    assert set(names) == {name for name, value in fusion_results.items() if torch.is_tensor(value)}
    for name in names:
        assert_parity(fusion_results[name], arrays[name], tolerance=TOLERANCE, what=name)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_fusion_gradient_norms(fusion_results, values, mode):
    name = f"fuse_{mode}_grad_norms"
    assert set(values[name]) == set(fusion_results[name])
    assert_norms(fusion_results[name], values[name], name)


def test_dead_attention_is_finite_and_has_no_gradient(fusion_results, values):
    assert torch.isfinite(fusion_results["fuse_dead_attention_out"]).all()
    name = "fuse_dead_attention_grad_feat_norm"
    assert fusion_results[name] == values[name] == 0.0


def test_clothing_head_outputs(head_results, arrays):
    names = [name for name in arrays if name.startswith("pmhead_")]
    assert set(names) == {name for name, value in head_results.items() if torch.is_tensor(value)}
    for name in names:
        assert_parity(head_results[name], arrays[name], tolerance=TOLERANCE, what=name)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_clothing_head_gradient_norms(head_results, values, mode):
    name = f"pmhead_{mode}_grad_norms"
    assert_norms(head_results[name], values[name], name)


def test_clothing_head_keys(head_results, values):
    assert head_results["keys"] == values["pmhead_keys"]


POOLINGS = {"pool_maxavg": "maxavg", "pool_gem_p3": "gem"}


@pytest.mark.parametrize(("name", "kind"), POOLINGS.items())
def test_pooling(name, kind, arrays, golden):
    feature_map = double(golden.input_name("pool"), (*arrays["pool_gem_p3"].shape, *POOL_MAP))
    pooled = build_pooling(kind).double()(feature_map)
    assert_parity(pooled, arrays[name], tolerance=TOLERANCE, what=name)


class Inputs:
    """Tensors and labels of the loss cases."""

    def __init__(self, golden, labels):
        own = [pid for pid, count in enumerate(labels["clothes_per_pid"]) for _ in range(count)]
        num_pids, num_clothes = len(labels["clothes_per_pid"]), len(own)
        self.pids = torch.tensor(labels["pids"])
        self.clothes_ids = torch.tensor(labels["clothes_ids"])
        self.own_clothes = torch.tensor(own) == self.pids[:, None]
        count = len(self.pids)
        shapes = {
            "feat": (count, LOSS_DIM),
            "W": (num_clothes, LOSS_DIM),
            "Wp": (num_pids, LOSS_DIM),
            "logits": (count, num_pids),
            "logits2": (count, num_clothes),
            "logits3": (count, num_pids),
        }
        for name, shape in shapes.items():
            tensor = double(golden.input_name(f"loss_{name}"), shape).requires_grad_()
            setattr(self, name, tensor)
        self.cosines2 = self.logits2.detach().tanh().requires_grad_()

    @property
    def cos(self):
        return F.linear(F.normalize(self.feat), F.normalize(self.W))

    @property
    def cos_pids(self):
        return F.linear(F.normalize(self.feat), F.normalize(self.Wp))


# Case name: loss, and the tensors whose gradient norms are stored.
LOSSES = {
    "ce_label_smooth(logits,pids)": (lambda t: identity_loss(t.logits, t.pids), "logits"),
    "counterfactual_ce_ls(logits,logits3)": (
        lambda t: identity_loss(counterfactual_logits(t.logits, t.logits3), t.pids),
        "logits logits3",
    ),
    "cosface_s16_m0(feat,W; clothes)": (lambda t: clothes_loss(t.cos, t.clothes_ids), "feat W"),
    "cosface_s16_m0.1(feat,W; clothes)": (
        lambda t: cosface(t.cos, t.clothes_ids, scale=16, margin=0.1),
        "feat W",
    ),
    "cal_s16_eps0.1(feat,W)": (
        lambda t: clothes_adversarial(t.cos, t.clothes_ids, t.own_clothes, epsilon=0.1),
        "feat W",
    ),
    "cal_s16_eps1.0(feat,W)": (
        lambda t: clothes_adversarial(t.cos, t.clothes_ids, t.own_clothes, epsilon=1.0),
        "feat W",
    ),
    "triplet_cos_m0.3(feat)": (lambda t: pair_loss(t.feat, t.pids), "feat"),
    "contrastive_s16(feat)": (lambda t: pair_loss(t.feat, t.pids, kind="contrastive"), "feat"),
    "pairwise_cosface_s16_m0.1(feat)": (
        lambda t: pair_loss(t.feat, t.pids, kind="cosface", margin=0.1),
        "feat",
    ),
    "pairwise_circle_s48_m0.35(feat)": (
        lambda t: pair_loss(t.feat, t.pids, kind="circle", scale=48, margin=0.35),
        "feat",
    ),
    "arcface_s16_m0.1(feat,Wp; pids)": (
        lambda t: identity_loss(t.cos_pids, t.pids, kind="arcface", margin=0.1),
        "feat Wp",
    ),
    "circle_s96_m0.3(feat,Wp; pids)": (
        lambda t: identity_loss(t.cos_pids, t.pids, kind="circle", scale=96, margin=0.3),
        "feat Wp",
    ),
    # The first tensor is only looked at: it has no gradient.
    "sym_kl_sum(Q from feat@W detached, P from tanh(loss_logits2))": (
        lambda t: symmetric_kl(t.cosines2, t.cos),
        "feat cosines2",
    ),
}


@pytest.mark.parametrize("case", list(LOSSES))
def test_loss_value_and_gradient_norms(case, values, golden):
    expected = values["losses"][case]
    inputs = Inputs(golden, values["loss_inputs"])
    function, names = LOSSES[case]
    loss = function(inputs)
    tensors = [getattr(inputs, name) for name in names.split()]
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    assert loss.item() == pytest.approx(expected["value"], rel=TOLERANCE)
    assert len(gradients) == len(expected["grad_norms"])
    for name, gradient, norm in zip(names.split(), gradients, expected["grad_norms"], strict=True):
        if norm is None:
            assert gradient is None, name
        else:
            assert float(gradient.norm()) == pytest.approx(norm, rel=TOLERANCE), name


def test_no_case_of_the_files_is_left_out(values, arrays):
    assert set(values["losses"]) == set(LOSSES)
    fuse = {f"fuse_{mode}_grad_norms" for mode in ("eval", "train")}
    head = {f"pmhead_{mode}_grad_norms" for mode in ("eval", "train")} | {"pmhead_keys"}
    other = {"fuse_dead_attention_grad_feat_norm", "loss_inputs", "losses"}
    assert set(values) == fuse | head | other
    assert {name for name in arrays if not name.startswith(("fuse_", "pmhead_"))} == set(POOLINGS)
    assert np.isfinite(np.concatenate([value.ravel() for value in arrays.values()])).all()
