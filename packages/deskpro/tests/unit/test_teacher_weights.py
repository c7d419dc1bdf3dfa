"""Files of teachers: ours and the authors', and which training set they fit."""

from __future__ import annotations

import pytest
import torch

from reid_core.errors import CheckpointError, ConfigError
from reid_deskpro.lmbn import LMBN
from reid_deskpro.model import DeskPro
from reid_deskpro.teacher_weights import parse_teacher, read_teacher, save_teacher, teacher_file

WIDTH = 1 / 16
NAMES = ("1", "10", "2")
FACTS = {"dataset": "prcc", "version": "0.1.0", "config": {"epochs": 140}}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LMBN(3, width=WIDTH)


@pytest.fixture
def content(network):
    return teacher_file(network, identities=NAMES, facts=FACTS)


def make_student(num_pids=3, **settings):
    return DeskPro(num_pids, width=settings.pop("width", WIDTH), **settings)


def assert_equal_states(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_written_and_read_back(network, tmp_path):
    path = tmp_path / "teacher.pth"
    save_teacher(path, network, identities=NAMES, facts=FACTS)
    teacher = read_teacher(path)
    assert (teacher.num_pids, teacher.identities) == (3, NAMES)
    assert {name: teacher.facts[name] for name in FACTS} == FACTS
    assert_equal_states(teacher.state, network.state_dict())
    student = make_student()
    teacher.load_into(student)
    assert_equal_states(student.teacher_state(), network.state_dict())
    alone = teacher.inference_network()
    assert not alone.training
    assert_equal_states(alone.state_dict(), network.inference_state())
    assert list(tmp_path.iterdir()) == [path]


def test_the_layout_is_the_official_one(network, tmp_path):
    path = tmp_path / "teacher.pth"
    save_teacher(path, network, identities=NAMES, facts=FACTS)
    stored = torch.load(path, weights_only=True)
    assert list(stored["state_dict"]) == [f"face_net.{key}" for key in network.state_dict()]


@pytest.mark.parametrize(
    "wrapped",
    [
        "face_net.{}",
        "module.face_net.{}",
        "face_net.module.{}",
        "model.face_net.{}",
        "model.module.face_net.{}",
    ],
)
def test_files_of_the_authors(network, wrapped):
    """With any wrapper, and with other networks in it, which are left alone."""
    state = {wrapped.format(key): value for key, value in network.state_dict().items()}
    second = "global_branch.backbone2.2.bn.weight"
    alias = second.replace("global_branch", "branches.0")
    state[wrapped.format(alias)] = network.state_dict()[second]
    state["nocloth_net.backbone.0.conv.weight"] = torch.zeros(1)
    teacher = parse_teacher({"state_dict": state, "epoch": 3}, source="x")
    assert (teacher.num_pids, teacher.identities) == (3, None)
    assert_equal_states(teacher.state, network.state_dict())
    teacher.require_identities(["a", "b", "c"])


@pytest.mark.parametrize(
    "state",
    [
        {"lr_face_net.backbone.0.conv.weight": torch.zeros(1)},
        {"backbone.0.conv.weight": torch.zeros(1)},
        {"face_net.backbone.0.conv.weight": torch.zeros(1)},
    ],
)
def test_a_file_without_a_teacher(state):
    message = r"state_dict of f\.pth holds no teacher: .*first keys are \w+.*deskpro-teacher"
    with pytest.raises(CheckpointError, match=message):
        parse_teacher({"state_dict": state}, source="f.pth")


@pytest.mark.parametrize("value", [None, {}, {"state_dict": {}}, {"face_net": {}}])
def test_other_layouts(value):
    with pytest.raises(CheckpointError, match=r"f is no checkpoint of the official DeskPro code"):
        parse_teacher(value, source="f")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1", "10"), r"f was trained on 3 identities, this training set has 2"),
        (("1", "2", "10"), r"other identities .*: label 1 is '10' there and '2' here"),
    ],
)
def test_another_training_set(content, names, message):
    teacher = parse_teacher(content, source="f")
    teacher.require_identities(NAMES)
    with pytest.raises(CheckpointError, match=message):
        teacher.require_identities(names)


@pytest.mark.parametrize(
    "settings", [{"num_pids": 4}, {"width": 1 / 8}], ids=["identities", "width"]
)
def test_a_teacher_of_another_size(content, settings):
    with pytest.raises(CheckpointError, match=r"state_dict of f does not fit the network"):
        parse_teacher(content, source="f").load_into(make_student(**settings))


def test_a_damaged_teacher(content):
    del content["state_dict"]["face_net.part_branch.reduction_3.bn.weight"]
    teacher = parse_teacher(content, source="f")
    message = r"does not fit the network: 1 missing: part_branch\.reduction_3\.bn\.weight"
    for load in (lambda: teacher.load_into(make_student()), teacher.inference_network):
        with pytest.raises(CheckpointError, match=message):
            load()


def test_a_network_that_needs_none(content):
    with pytest.raises(ConfigError, match="this network has no teacher"):
        parse_teacher(content, source="f").load_into(make_student(mode="body"))


def test_names_of_other_identities_are_not_written(network, tmp_path):
    message = "classifies 3 identities cannot be saved with the names of 2"
    with pytest.raises(CheckpointError, match=message):
        save_teacher(tmp_path / "x.pth", network, identities=["a", "b"], facts={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [("1", "10"), (*NAMES, "3"), ()])
def test_names_that_are_not_as_many_as_the_classes(content, names):
    content["identities"] = list(names)
    with pytest.raises(CheckpointError, match=f"names {len(names)} identities but classifies 3"):
        parse_teacher(content, source="teacher.pth")


def test_a_classifier_of_one_number(content):
    key = next(key for key in content["state_dict"] if key.endswith("classifier.weight"))
    content["state_dict"][key] = torch.tensor(1.0)
    with pytest.raises(CheckpointError, match="names 3 identities but classifies 0"):
        parse_teacher(content, source="teacher.pth")
