"""DeskPro: which networks a mode has, the frozen teacher, and images without a face."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reid_core.errors import CheckpointError, ConfigError
from reid_core.models import FlipEmbedding
from reid_core.models.embedding import companion_sizes, num_parts, part_network
from reid_deskpro.lmbn import LMBN
from reid_deskpro.model import DeskPro

WIDTH = 1 / 16
DIM = 32
PARTS = {"all": {"face": 7, "body": 7}, "face": {"face": 7}, "body": {"body": 7}}
NETWORKS = {
    "all": ["face_net", "lr_face_net", "nocloth_net"],
    "face": ["face_net", "lr_face_net"],
    "body": ["nocloth_net"],
}
MODES = list(PARTS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BODY, LR_FACE, HR_FACE = draw(4, 3, 64, 32), draw(4, 3, 48, 48), draw(4, 3, 48, 48, seed=1)


def make(num_pids=5, **settings):
    """Return a network that gives no zeros for zeros, as an untrained one does."""
    torch.manual_seed(0)
    network = DeskPro(num_pids, width=WIDTH, face_size=(48, 48), **settings)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean, std=0.1)
    return network


@pytest.fixture
def network():
    return make()


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_has(mode):
    network = make(mode=mode)
    assert [name for name, _ in network.named_children()] == NETWORKS[mode]
    assert dict(network.part_groups) == PARTS[mode]
    assert num_parts(network) == sum(PARTS[mode].values())
    assert companion_sizes(network) == ({} if mode == "body" else {"lr_face": (48, 48)})
    network.eval()
    embeddings = network.embed(BODY, LR_FACE)
    assert embeddings.shape == (4, network.embedding_dim) == (4, num_parts(network) * DIM)
    out = network(BODY, LR_FACE)
    assert (out.face is None, out.body is None) == (mode == "body", mode == "face")
    assert out.teacher_logits is None
    inference = make(None, mode=mode).eval()
    inference.load_state_dict(network.inference_state())
    assert torch.equal(inference.embed(BODY, LR_FACE), embeddings)
    assert inference.face_net is None
    assert not [key for key in inference.state_dict() if "classifier" in key]


def test_the_face_parts_come_first(network):
    network.eval()
    found = network.embed(BODY, LR_FACE)
    assert torch.equal(found[:, : 7 * DIM], network.lr_face_net.embed(LR_FACE))
    assert torch.equal(found[:, 7 * DIM :], network.nocloth_net.embed(BODY))


def test_only_the_body_stream_has_attention(network):
    out = network(BODY, LR_FACE)
    assert out.face.attention is None
    assert out.body.attention.shape == (4, 1, 8, 4)


def test_an_image_without_a_face(network):
    network.eval()
    faces = LR_FACE.clone()
    faces[[1, 3]] = 0
    assert network.lr_face_net.embed(faces)[1].any()
    found, whole = network.embed(BODY, faces), network.embed(BODY, LR_FACE)
    assert not found[[1, 3], : 7 * DIM].any()
    assert torch.equal(found[[0, 2]], whole[[0, 2]])
    assert torch.equal(found[:, 7 * DIM :], whole[:, 7 * DIM :])
    # One pixel that is not zero makes a face.
    faces[1, 0, 0, 0] = 1
    assert network.embed(BODY, faces)[1, : 7 * DIM].any()
    features = FlipEmbedding(network, "sum")(BODY, faces)
    assert torch.isfinite(features).all()
    assert features.square().sum(dim=1).tolist() == pytest.approx([14, 14, 14, 7], rel=1e-5)


@pytest.mark.parametrize("name", ["face", "body"])
def test_one_stream_of_both(network, name):
    network.eval()
    alone = part_network(network, name)
    start = 0 if name == "face" else 7 * DIM
    expected = network.embed(BODY, LR_FACE)[:, start : start + 7 * DIM]
    inputs = (BODY, LR_FACE)[: 1 + len(companion_sizes(alone))]
    assert torch.equal(alone.embed(*inputs), expected)
    assert dict(alone.part_groups) == {name: 7}
    assert not alone.training
    own = {value.data_ptr() for value in network.parameters()}
    assert {value.data_ptr() for value in alone.parameters()} <= own
    assert part_network(alone, name) is alone


def test_there_is_no_other_stream(network):
    with pytest.raises(ConfigError, match=r"unknown stream 'head'; choose one of face, body"):
        network.part_network("head")


def test_the_teacher_is_frozen_but_its_statistics_drift(network):
    before = copy.deepcopy(network.face_net.state_dict())
    out = network.train()(BODY, LR_FACE, HR_FACE)
    assert not any(logits.requires_grad for logits in out.teacher_logits)
    for key, value in network.face_net.state_dict().items():
        is_statistic = "running" in key or "num_batches" in key
        moves = is_statistic and "conv2b" not in key
        assert torch.equal(value, before[key]) != moves, key
    assert not any(value.requires_grad for value in network.face_net.parameters())
    alone = LMBN(5, width=WIDTH).train()
    alone.load_state_dict(before)
    for found, expected in zip(out.teacher_logits, alone(HR_FACE).logits, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_teacher_in_evaluation_mode():
    network = make(teacher_mode="eval").train()
    assert network.lr_face_net.training
    assert not any(part.training for part in network.face_net.modules())
    before = copy.deepcopy(network.face_net.state_dict())
    network(BODY, LR_FACE, HR_FACE)
    after = network.face_net.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


def test_teacher_to_student_round_trip(network):
    """The state of a network trained alone is the teacher's, and back."""
    torch.manual_seed(3)
    alone = LMBN(5, width=WIDTH)
    network.load_teacher(alone.state_dict(), source="x")
    found = network.teacher_state()
    assert found.keys() == alone.state_dict().keys()
    assert all(torch.equal(value, found[key]) for key, value in alone.state_dict().items())
    # Teacher and student are networks of one kind.
    network.lr_face_net.load_state_dict(found)
    other = LMBN(5, width=WIDTH)
    other.load_state_dict(found)
    assert torch.equal(other.eval().embed(HR_FACE), network.face_net.eval().embed(HR_FACE))


@pytest.mark.parametrize("change", ["missing", "num_pids"])
def test_a_teacher_that_does_not_fit(network, change):
    state = LMBN(6 if change == "num_pids" else 5, width=WIDTH).state_dict()
    if change == "missing":
        del state["backbone.0.conv.weight"]
    with pytest.raises(CheckpointError, match=r"x does not fit the network.*same identities"):
        network.load_teacher(state, source="x")


def test_a_network_without_a_teacher():
    for network in (make(None), make(mode="body"), make(teacher=False)):
        assert network.face_net is None
        with pytest.raises(ConfigError, match=r"this network has no teacher \(mode"):
            network(BODY, LR_FACE, HR_FACE)
        with pytest.raises(ConfigError, match=r"this network has no teacher"):
            network.teacher_state()


def test_missing_faces_are_an_error(network):
    with pytest.raises(ConfigError, match=r"the face stream needs face crops: give lr_face"):
        network(BODY)
    with pytest.raises(ConfigError, match=r"the face stream needs face crops: give lr_face"):
        network.eval().embed(BODY)
    assert make(mode="body").eval().embed(BODY).shape == (4, 7 * DIM)


@pytest.mark.parametrize("mode", MODES)
def test_embed_refuses_training_mode(mode):
    with pytest.raises(RuntimeError, match=r"embed\(\) needs evaluation mode"):
        make(mode=mode).train().embed(BODY, LR_FACE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "head"}, r"unknown mode 'head'; choose one of all, body, face"),
        ({"teacher_mode": "x"}, r"unknown teacher_mode 'x'; choose one of train, eval"),
        ({"osnet_variant": "x"}, r"unknown osnet_variant 'x'; choose one of deskpro, standard"),
    ],
)
def test_unknown_choices(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_the_variant_reaches_every_block():
    network = make(osnet_variant="standard")
    assert {part.variant for part in network.modules() if hasattr(part, "variant")} == {"standard"}
    trained = {key for key, value in network.named_parameters() if value.requires_grad}
    assert any("conv2b" in key for key in trained)
    assert not any(key.startswith("face_net.") for key in trained)


def test_on_the_meta_device():
    """The memory plan runs networks there: no value may decide what is computed."""
    with torch.device("meta"):
        network = make(None).eval()
        found = network.embed(torch.empty(2, 3, 64, 32), torch.empty(2, 3, 48, 48))
    assert found.shape == (2, network.embedding_dim)


def test_double_precision(network):
    network.double().eval()
    assert network.embed(BODY.double(), LR_FACE.double()).dtype == torch.float64


def test_streams_share_nothing(network):
    out = network.train()(BODY, LR_FACE, HR_FACE)
    sum(logits.square().sum() for logits in out.face.logits).backward()
    with_gradient = {key for key, value in network.named_parameters() if value.grad is not None}
    assert with_gradient
    assert {key.split(".")[0] for key in with_gradient} == {"lr_face_net"}
