"""model.npz and model.json in training: outputs, losses, gradients, statistics, one Adam step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from reid_core.testing.golden import assert_parity
from reid_deskpro.losses import (
    attention_loss,
    attention_target,
    distillation_losses,
    identity_losses,
    triplet_losses,
)
from reid_deskpro.model import DeskPro, DeskProOutput
from reid_deskpro.official_names import NETWORKS

# golden README: float64 by the largest value of an array; float32 absolute.
FLOAT64 = 1e-6
OUTPUTS, ATTENTION, STATISTICS, LOSSES, STEP = 5e-4, 5e-6, 3e-7, 1e-4, 1e-6
GRADIENT_NORMS = 1e-2  # relative, in float32
NUM_HEADS, NUM_FEATURES = 7, 3
LOSS_KEYS = {
    "ce": "ce_each",
    "triplet": "triplet_each",
    "kd_T1": "kd_each_T1",
    "kd_T5": "kd_each_T5",
    "attn": "attn_loss",
}
LR, WEIGHT_DECAY = 6e-4 * (30 / 20) ** 0.5, 5e-4


class Pass(NamedTuple):
    """One forward pass in training mode, its losses and the gradients of the first setting."""

    network: DeskPro
    output: DeskProOutput
    dropped_rows: dict[str, torch.Tensor]
    statistics: dict[str, torch.Tensor]
    terms: dict[str, tuple[torch.Tensor, ...]]
    gradients: dict[str, torch.Tensor | None]


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
def run(golden_batch, golden_network, record, dtype):
    batch = golden_batch("", record["B_train"], dtype)
    pids = torch.tensor(record["labels"])
    network = golden_network(record["K"], dtype).train()
    dropped_rows = {}
    for name in NETWORKS:

        def keep(module, inputs, output, name=name):
            assert (output.refined != 0).flatten(2).any(dim=2).any()
            dropped_rows[name] = (output.dropped == 0).all(dim=1).all(dim=2)

        block = network.get_submodule(f"{name}.global_branch.batch_drop_block")
        block.register_forward_hook(keep)
    output = network(batch.body, batch.lr_face, batch.hr_face)
    statistics = {key: value.clone() for key, value in network.state_dict().items()}
    target = attention_target(batch.mask, output.body.attention.shape[2:])
    terms = {
        "ce": identity_losses((*output.face.logits, *output.body.logits), pids),
        "triplet": triplet_losses((*output.face.features, *output.body.features), pids),
        "kd_T1": distillation_losses(output.face.logits, output.teacher_logits, temperature=1),
        "kd_T5": distillation_losses(output.face.logits, output.teacher_logits, temperature=5),
        "attn": (attention_loss(output.body.attention, target),),
    }
    total(terms, record["configs"][0]).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return Pass(network, output, dropped_rows, statistics, terms, gradients)


def total(terms, config):
    """Return the total of the official code.

    It adds the distillation also where it is off, and scales the first seven heads whatever they
    are. Our training step does neither.
    """
    face, body = config["mode"] != "body", config["mode"] != "face"
    heads = slice(None if face else NUM_HEADS, None if body else NUM_HEADS)
    features = slice(None if face else NUM_FEATURES, None if body else NUM_FEATURES)
    identity = terms["ce"][heads]
    scale = 1 - config["alpha"] if config["kd_enable"] else 1
    loss = scale * sum(identity[:NUM_HEADS]) + sum(identity[NUM_HEADS:])
    loss = loss + sum(terms["triplet"][features])
    if face:
        loss = loss + config["alpha"] * sum(terms[f"kd_T{config['T']:g}"])
    if body:
        loss = loss + config["mse_weight"] * terms["attn"][0]
    return loss


def check(found, expected, what, dtype, tolerance):
    """Compare as the golden README says for this precision."""
    if dtype == torch.float64:
        assert_parity(found, expected, tolerance=FLOAT64, what=what)
        return
    assert found.dtype == torch.float32
    assert expected.size
    np.testing.assert_allclose(
        found.detach().numpy(), expected, rtol=0, atol=tolerance, err_msg=what
    )


def approx_loss(expected, dtype):
    """Return what a loss, or a list of one per head, is compared with."""
    values = expected if isinstance(expected, list) else [expected]
    if dtype == torch.float64:
        return pytest.approx(values, rel=FLOAT64)
    return pytest.approx(values, rel=0, abs=LOSSES)


def test_logits_features_and_teacher(run, arrays, dtype):
    face, body, teacher = run.output
    found = {
        "logits": (*face.logits, *body.logits),
        "feats": (*face.features, *body.features),
        "teacher_logits": teacher,
    }
    for name, heads in found.items():
        check(torch.stack(heads), arrays[name], name, dtype, OUTPUTS)
    assert not torch.stack(teacher).requires_grad


def test_attention_and_its_target(run, golden_batch, record, arrays, dtype):
    check(run.output.body.attention, arrays["attn"], "attn", dtype, ATTENTION)
    mask = golden_batch("", record["B_train"], dtype).mask
    resized = arrays["mask_resized"]
    expected = np.where(resized == 0, np.float32(0.1), resized)
    check(attention_target(mask, resized.shape[2:]), expected, "target", dtype, ATTENTION)


def test_dropped_rows(run, arrays):
    assert set(run.dropped_rows) == set(NETWORKS)
    for name, rows in run.dropped_rows.items():
        assert rows.numpy().tolist() == arrays[f"dropped_rows_{name}"].tolist(), name


@pytest.mark.parametrize("name", LOSS_KEYS)
def test_losses(run, record, dtype, name):
    found = [loss.item() for loss in run.terms[name]]
    assert found == approx_loss(record[LOSS_KEYS[name]], dtype)


def test_totals_of_every_setting(run, record, dtype):
    assert record["configs"]
    for config in record["configs"]:
        found = [total(run.terms, config).item()]
        assert found == approx_loss(config["total"], dtype), config


def test_gradient_norms(run, record, dtype):
    expected = record["grad_norms_config0"]
    tolerance = FLOAT64 if dtype == torch.float64 else GRADIENT_NORMS
    for name, norm in expected.items():
        found = [
            gradient.square().sum()
            for key, gradient in run.gradients.items()
            if key.startswith(f"{name}.") and gradient is not None
        ]
        assert bool(found) == (norm is not None), name
        if found:
            assert sum(found).sqrt().item() == pytest.approx(norm, rel=tolerance), name
    covered = {key for key in run.gradients if key.startswith(tuple(f"{n}." for n in expected))}
    assert covered == set(run.gradients)


def test_what_has_no_gradient(run, record):
    without = {key for key, gradient in run.gradients.items() if gradient is None}
    teacher = {key for key in without if key.startswith("face_net.")}
    unused = {key for key in without - teacher if "conv2b" in key}
    counts = record["tensors_without_grad_counts"]
    assert len(teacher) == counts["face_net.*"]
    assert len(unused) == counts["*conv2b* outside face_net"]
    assert len(without - teacher - unused) == counts["frozen neck biases outside face_net"]
    assert all(key.endswith(".bn.bias") for key in without - teacher - unused)


def test_gradients(run, arrays, dtype):
    names = [name.removeprefix("g_") for name in arrays if name.startswith("g_")]
    assert names
    for name in names:
        # Some are named within their network.
        (gradient,) = [
            run.gradients[key] for key in run.gradients if f".{key}".endswith(f".{name}")
        ]
        found, expected = gradient.double(), arrays[f"g_{name}"]
        if dtype == torch.float64:
            assert_parity(found, expected, tolerance=FLOAT64, what=name)
            continue
        # The elements of these sums over a map are rounding noise to a part in float32.
        wanted = torch.from_numpy(expected).double()
        cosine = torch.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)
        assert cosine.item() == pytest.approx(1, abs=GRADIENT_NORMS), name
        norm = wanted.norm().item()
        assert found.norm().item() == pytest.approx(norm, rel=GRADIENT_NORMS), name


def test_running_statistics(run, arrays, dtype):
    names = [name.removeprefix("stat_") for name in arrays if name.startswith("stat_")]
    assert any("conv2a" in name for name in names)
    assert any("conv2b" in name for name in names)
    for name in names:
        found, expected = run.statistics[name], arrays[f"stat_{name}"]
        if name.endswith("num_batches_tracked"):
            assert found.item() == expected, name
        else:
            check(found, expected, name, dtype, STATISTICS)


def test_one_adam_step(run, arrays, dtype):
    names = [name.removeprefix("step_") for name in arrays if name.startswith("step_")]
    assert any(name.startswith("face_net.") for name in names)
    network = run.network
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    trained = [value for value in network.parameters() if value.requires_grad]
    torch.optim.Adam(trained, lr=LR, weight_decay=WEIGHT_DECAY).step()
    for key, value in network.named_parameters():
        assert torch.equal(value, before[key]) != value.requires_grad, key
    for name in names:
        found = network.get_parameter(name)
        check(found, arrays[f"step_{name}"], name, dtype, STEP)
