"""The training iterations: which terms count, what is updated, what is logged."""

import copy
from dataclasses import replace

import pytest
import torch

from reid_deskpro.batches import PictureBatch
from reid_deskpro.config import DeskProConfig, LossConfig
from reid_deskpro.lmbn import LMBN
from reid_deskpro.losses import identity_losses, triplet_losses
from reid_deskpro.model import DeskPro
from reid_deskpro.stage import build_optimizer_of
from reid_deskpro.stage_config import CosineConfig, StreamLossConfig
from reid_deskpro.step import DeskProLosses, StreamLosses, TeacherStep, TrainingStep

PIDS = torch.tensor([0, 0, 1, 1])
NUM_PIDS, FACE = 3, (32, 32)


def network(mode="all", teacher=True):
    torch.manual_seed(0)
    options = {"mode": mode, "teacher": teacher, "width": 0.0625, "face_size": FACE}
    return DeskPro(NUM_PIDS, **options).train()


def batch(mode="all", teacher=True):
    rng = torch.Generator().manual_seed(1)

    def picture(*shape):
        return torch.randn(len(PIDS), *shape, generator=rng)

    face, body = mode != "body", mode != "face"
    return PictureBatch(
        images=picture(3, 64, 32),
        lr_face=picture(3, *FACE) if face else None,
        hr_face=picture(3, *FACE) if face and teacher else None,
        masks=(picture(1, 64, 32) > 0).float() if body else None,
        pids=PIDS,
        paths=(),
    )


def step_of(model, config=None):
    optimizer = build_optimizer_of(model, DeskProConfig())
    return TrainingStep(model, config or LossConfig(), optimizer)


def scalar(value):
    return torch.tensor(float(value))


STREAM = StreamLosses(scalar(2), scalar(3))
OTHER = StreamLosses(scalar(5), scalar(7))
CONFIG = LossConfig(alpha=0.75, attention_weight=10, face_metric_weight=0.5)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (DeskProLosses(STREAM, OTHER, scalar(8), scalar(1)), 0.5 + 1.5 + 6 + 12 + 10),
        (DeskProLosses(STREAM, OTHER, None, scalar(1)), 5 + 12 + 10),
        (DeskProLosses(STREAM, None, scalar(8), None), 0.5 + 1.5 + 6),
        (DeskProLosses(STREAM, None, None, None), 5),
        (DeskProLosses(None, OTHER, None, scalar(1)), 12 + 10),
    ],
    ids=["all", "all, no teacher", "face", "face, no teacher", "body"],
)
def test_totals(losses, expected):
    assert losses.total(CONFIG).item() == pytest.approx(expected)


def test_recipe_of_the_heads():
    output = network()(batch().images, batch().lr_face).face
    identity = sum(identity_losses(output.logits, PIDS, epsilon=0.2)).item()
    triplet = sum(triplet_losses(output.features, PIDS, margin=0.4)).item()
    found = StreamLosses.of(
        output,
        PIDS,
        StreamLossConfig(recipe="0.5*CrossEntropy+2*Triplet", label_smoothing=0.2, margin=0.4),
    )
    assert found.identity.item() == pytest.approx(0.5 * identity)
    assert found.metric.item() == pytest.approx(2 * triplet)
    both = StreamLossConfig(recipe="1*Triplet+3*MSLoss", margin=0.4)
    only = StreamLossConfig(recipe="1*MSLoss", margin=0.4)
    found = StreamLosses.of(output, PIDS, both)
    assert found.identity.item() == 0
    expected = triplet + 3 * StreamLosses.of(output, PIDS, only).metric.item()
    assert found.metric.item() == pytest.approx(expected)


TERMS = {
    "all": {"id_face", "metric_face", "id_body", "metric_body", "distill", "attention"},
    "face": {"id_face", "metric_face", "distill"},
    "body": {"id_body", "metric_body", "attention"},
}


@pytest.mark.parametrize("mode", TERMS)
def test_a_step_logs_its_terms_and_updates_its_streams(mode):
    model = network(mode)
    before = copy.deepcopy(model.state_dict())
    terms = step_of(model)(batch(mode))
    streams = {"all": {"face", "body"}, "face": {"face"}, "body": {"body"}}[mode]
    assert set(terms) == {"loss"} | {f"loss_{name}" for name in TERMS[mode]} | {
        f"acc_{name}" for name in streams
    }
    assert all(torch.isfinite(value) and not value.requires_grad for value in terms.values())
    after = model.state_dict()
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len({name.partition(".")[0] for name in trained}) == len(streams)
    for name, value in model.named_parameters():
        # A gate whose hidden units are all at rest has a gradient of zero.
        is_moved = name in trained and bool(value.grad.any() or before[name].any())
        assert torch.equal(after[name], before[name]) != is_moved, name


def test_the_total_is_that_of_its_terms():
    config = LossConfig(alpha=0.4, attention_weight=3)
    terms = step_of(network(), config)(batch())
    expected = (
        0.6 * terms["loss_id_face"]
        + terms["loss_metric_face"]
        + 0.4 * terms["loss_distill"]
        + terms["loss_id_body"]
        + terms["loss_metric_body"]
        + 3 * terms["loss_attention"]
    )
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_a_teacher_nothing_is_scaled():
    config = LossConfig(distill=False, alpha=0.4)
    terms = step_of(network(teacher=False), config)(batch(teacher=False))
    assert "loss_distill" not in terms
    expected = sum(
        terms[f"loss_{kind}_{name}"] for kind in ("id", "metric") for name in ("face", "body")
    )
    expected = expected + config.attention_weight * terms["loss_attention"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_are_exchanged_before_they_are_used():
    model, calls = network(), []

    def synchronize(parameters):
        given = list(parameters)
        calls.append(len(given))
        for parameter in given:
            if parameter.grad is not None:
                parameter.grad.zero_()

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    before = copy.deepcopy([p.detach() for p in model.parameters()])
    TrainingStep(model, LossConfig(), optimizer, synchronize=synchronize)(batch())
    assert calls == [len(optimizer.param_groups[0]["params"])]
    for parameter, earlier in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, earlier)


def test_the_teacher_learns_by_its_own_losses():
    torch.manual_seed(0)
    model = LMBN(NUM_PIDS, width=0.0625).train()
    step = TeacherStep(model, StreamLossConfig(), build_optimizer_of(model, DeskProConfig()))
    faces = batch().hr_face
    first = step(faces, PIDS)
    assert set(first) == {"loss", "loss_id", "loss_metric", "acc_id"}
    assert first["loss"].item() == pytest.approx(
        first["loss_id"].item() + first["loss_metric"].item(), rel=1e-6
    )
    for _ in range(15):
        last = step(faces, PIDS)
    assert last["loss_id"] < first["loss_id"]


def test_learning_rate_of_the_attention():
    config = DeskProConfig(optim=CosineConfig(lr=0.1, attention_lr_factor=0.5))
    model = network()
    groups = build_optimizer_of(model, config).param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.05]
    attention = {id(item) for item in model.nocloth_net.spatial_attn.parameters()}
    assert {id(item) for item in groups[1]["params"]} == attention
    trained = {id(item) for item in model.parameters() if item.requires_grad}
    assert {id(item) for group in groups for item in group["params"]} == trained

    (only,) = build_optimizer_of(network("face"), config).param_groups
    assert only["lr"] == 0.1
    (all_of_them,) = build_optimizer_of(
        model, replace(config, optim=CosineConfig(lr=0.1))
    ).param_groups
    assert {id(item) for item in all_of_them["params"]} == trained
