"""The iterations of both stages: what is summed, what is updated, and in which order."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch

from reid_iics.losses import identity_loss, triplet_loss
from reid_iics.model import IICS, Heads
from reid_iics.step import InterStep, IntraStep, build_optimizer

LR, DECAY = 0.01, 5e-4
CLASSES = (3, 2, 4)
LABELS = [torch.tensor(labels) for labels in ([0, 1, 2, 2], [1, 0, 1, 0], [3, 0, 1, 2])]


def make_network():
    torch.manual_seed(0)
    return IICS(backbone="resnet10").double().train()


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def batches():
    torch.manual_seed(1)
    return [torch.randn(4, 3, 32, 16, dtype=torch.float64) for _ in CLASSES]


def make_heads():
    torch.manual_seed(2)
    heads = Heads(512, CLASSES).double().train()
    for head in heads:
        torch.nn.init.normal_(head[1].weight, std=0.1)
    return heads


def make_intra(network, **settings):
    network, heads = copy.deepcopy(network), make_heads()
    optimizer = build_optimizer(network, heads, lr=LR, weight_decay=DECAY)
    return IntraStep(network, heads, optimizer, **settings)


def make_inter(network, **settings):
    network, head = copy.deepcopy(network), make_heads()[0]
    optimizer = build_optimizer(network, head, lr=LR, weight_decay=DECAY)
    return InterStep(network, head, optimizer, **settings)


def assert_equal_states(one, other, rtol=0.0):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.allclose(value, other[key], rtol=rtol, atol=rtol), key


def test_the_optimiser(network):
    heads = make_heads()
    optimizer = build_optimizer(network, heads, lr=LR, weight_decay=DECAY)
    backbone, own = optimizer.param_groups
    assert [group["lr"] for group in (backbone, own)] == [pytest.approx(LR / 10), LR]
    for group in (backbone, own):
        kind = (group["momentum"], group["nesterov"], group["weight_decay"], group["dampening"])
        assert kind == (0.9, False, DECAY, 0)
    assert [id(item) for item in backbone["params"]] == [id(item) for item in network.parameters()]
    frozen = {id(head[0].bias) for head in heads}
    assert {id(item) for item in own["params"]} == {
        id(item) for item in heads.parameters()
    } - frozen


def test_intra_step_is_one_update_by_the_sum(network, batches):
    """The reference holds all cameras' graphs at once, as the official code does."""
    step = make_intra(network)
    terms = step(batches, LABELS)

    reference, heads = copy.deepcopy(network), make_heads()
    optimizer = build_optimizer(reference, heads, lr=LR, weight_decay=DECAY)
    logits = [head(reference(batch)) for head, batch in zip(heads, batches, strict=True)]
    losses = [identity_loss(*pair) for pair in zip(logits, LABELS, strict=True)]
    sum(losses).backward()
    optimizer.step()

    assert terms["loss"].item() == pytest.approx(sum(losses).item())
    found = [terms[f"loss_camera_{camera}"].item() for camera in range(len(CLASSES))]
    assert found == pytest.approx([loss.item() for loss in losses])
    right = [
        (each.argmax(dim=1) == labels).double().mean()
        for each, labels in zip(logits, LABELS, strict=True)
    ]
    assert terms["acc"].item() == pytest.approx(sum(right).item() / 3)
    assert set(terms) == {"loss", "acc", *(f"loss_camera_{camera}" for camera in range(3))}
    assert not any(term.requires_grad for term in terms.values())
    assert_equal_states(step.model.state_dict(), reference.state_dict(), rtol=1e-12)
    assert_equal_states(step.heads.state_dict(), heads.state_dict(), rtol=1e-12)


def test_cameras_are_separate_passes_in_the_order_of_the_heads(network, batches):
    step = make_intra(network)
    seen = []
    step.model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    before = step.model.model.bn1.num_batches_tracked.item()
    step(batches, LABELS)
    assert len(seen) == len(batches)
    assert all(found is batch for found, batch in zip(seen, batches, strict=True))
    assert step.model.model.bn1.num_batches_tracked.item() == before + 3
    together = copy.deepcopy(network)
    together(torch.cat(batches))
    mean = together.model.layer3[0].bn1.running_mean
    assert not torch.allclose(step.model.model.layer3[0].bn1.running_mean, mean)


def test_only_one_cameras_activations_are_held(network, batches):
    step = make_intra(network)
    graphs = []

    def check(module, inputs, output):
        assert all(graph() is None for graph in graphs), "an earlier camera's graph is alive"
        graphs.append(weakref.ref(output))

    step.model.register_forward_hook(check)
    step(batches, LABELS)
    assert len(graphs) == 3


@pytest.mark.parametrize("count", [2, 4])
def test_a_batch_per_camera(network, batches, count):
    step = make_intra(network)
    with pytest.raises(ValueError, match=r"zip\(\)"):
        step((batches * 2)[:count], (LABELS * 2)[:count])


def test_inter_step(network, batches):
    step = make_inter(network, margin=0.7)
    labels = torch.tensor([0, 0, 1, 2])
    terms = step(batches[0], labels)

    reference, head = copy.deepcopy(network), make_heads()[0]
    optimizer = build_optimizer(reference, head, lr=LR, weight_decay=DECAY)
    features = reference(batches[0])
    loss_id = identity_loss(head(features), labels)
    loss_tri, precision = triplet_loss(features, labels, margin=0.7)
    (loss_id + loss_tri).backward()
    optimizer.step()

    expected = {"loss": loss_id + loss_tri, "loss_id": loss_id, "loss_tri": loss_tri}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item()), name
    assert terms["precision"] == precision
    assert set(terms) == {*expected, "acc", "precision"}
    assert not any(term.requires_grad for term in terms.values())
    assert_equal_states(step.model.state_dict(), reference.state_dict())
    assert_equal_states(step.head.state_dict(), head.state_dict())


def run_intra(network, batches, **settings):
    step = make_intra(network, **settings)
    return step, step(batches, LABELS)


def run_inter(network, batches, **settings):
    step = make_inter(network, **settings)
    return step, step(batches[0], torch.tensor([0, 0, 1, 2]))


@pytest.mark.parametrize("run", [run_intra, run_inter])
def test_loss_factor_scales_gradients_not_what_is_logged(network, batches, run):
    gradients, terms = [], []
    for factor in (1.0, 0.1):
        step, found = run(network, batches, loss_factor=factor)
        gradients.append(step.model.model.layer3[0].conv1.weight.grad)
        terms.append(found["loss"])
    assert torch.equal(*terms)
    assert torch.allclose(gradients[1], 0.1 * gradients[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("run", [run_intra, run_inter])
def test_gradients_are_synchronised_once_before_the_update(network, batches, run):
    """A synchronisation that wipes the gradients leaves the weights as they were."""
    calls = []

    def wipe(parameters):
        calls.append(0)
        for parameter in parameters:
            assert parameter.grad is not None
            calls[-1] += 1
            parameter.grad = None

    step, _ = run(network, batches, synchronize=wipe)
    trained = sum(len(group["params"]) for group in step.optimizer.param_groups)
    assert calls == [trained]
    assert_equal_states(dict(step.model.named_parameters()), dict(network.named_parameters()))


@pytest.mark.parametrize("make", [make_intra, make_inter])
def test_forward_passes_run_under_autocast_losses_do_not(network, batches, make):
    step = make(network, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    heads = step.heads if make is make_intra else step.head
    for module in (step.model, heads):
        module.float()
    kinds = []
    conv = step.model.model.layer3[0].conv1
    conv.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    images = [batch.float() for batch in batches]
    terms = step(images, LABELS) if make is make_intra else step(images[0], LABELS[0])
    assert set(kinds) == {torch.bfloat16}
    assert {value.dtype for value in terms.values()} == {torch.float32}


@pytest.mark.parametrize("run", [run_intra, run_inter])
def test_frozen_shifts_stay(network, batches, run):
    step, _ = run(network, batches)
    heads = getattr(step, "heads", None) or [step.head]
    for head in heads:
        assert not head[0].bias.any()
        assert not torch.equal(head[0].weight, torch.ones(512, dtype=torch.float64))
