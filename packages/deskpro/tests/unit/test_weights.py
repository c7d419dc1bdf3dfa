"""Official checkpoints: read, written, recognised; what is refused and why."""

from __future__ import annotations

import os
import sys
import types

import pytest
import torch

from reid_core.errors import CheckpointError, OutputError
from reid_deskpro.lmbn import LMBN
from reid_deskpro.model import DeskPro
from reid_deskpro.official_names import NETWORKS
from reid_deskpro.weights import (
    official_state_dict,
    parse_official,
    read_official,
    save_official,
)

WIDTH = 1 / 16


def small(num_pids=3, **settings):
    torch.manual_seed(0)
    return DeskPro(num_pids, width=WIDTH, **settings)


def full_size(**settings):
    """A network of the official size whose values are all zero and take no memory."""
    with torch.device("meta"):
        network = DeskPro(2, **settings)
    return network


def official_content(network):
    """Contents with the official keys, written out for a network of any width."""
    state = {}
    for key, value in network.state_dict().items():
        state[f"model.{key}"] = value
        for number, branch in enumerate(("global_branch", "part_branch", "channel_branch")):
            if f".{branch}." in key:
                state[f"model.{key.replace(branch, f'branches.{number}')}"] = value
    return {"epoch": 139, "global_step": 7, "state_dict": state}


def assert_equal_states(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_read_from_all_names():
    network = small()
    checkpoint = parse_official(official_content(network), source="x")
    assert checkpoint.networks == NETWORKS
    assert (checkpoint.epoch, checkpoint.num_pids, checkpoint.mode) == (139, 3, "all")
    loaded = checkpoint.network()
    assert_equal_states(loaded.state_dict(), network.state_dict())
    assert not loaded.training
    inference = checkpoint.inference_network(face_size=(64, 48))
    assert_equal_states(inference.state_dict(), network.inference_state())
    assert not inference.training
    assert inference.companions == {"lr_face": (64, 48)}


@pytest.mark.parametrize("kept", ["names", "second names"])
def test_either_name_of_a_branch_will_do(kept):
    network = small()
    content = official_content(network)
    dropped = ".branches." if kept == "names" else "_branch."
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if dropped not in k}
    checkpoint = parse_official(content, source="x")
    assert_equal_states(checkpoint.network().state_dict(), network.state_dict())


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_names_the_first_counts(order):
    network = small()
    content = official_content(network)
    changed = {
        key: value + 1 if ".branches." in key else value
        for key, value in list(content["state_dict"].items())[::order]
    }
    checkpoint = parse_official({"state_dict": changed}, source="x")
    assert_equal_states(checkpoint.state, network.state_dict())


@pytest.mark.parametrize("wrapped", ["module.{}", "{}", "model.module.{}"])
def test_wrappers_are_taken_off(wrapped):
    network = small()
    state = {wrapped.format(key): value for key, value in network.state_dict().items()}
    checkpoint = parse_official({"state_dict": state}, source="x")
    assert_equal_states(checkpoint.network().state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("kept", "mode"),
    [(("lr_face_net",), "face"), (("nocloth_net",), "body"), (("face_net", "nocloth_net"), "body")],
)
def test_some_of_the_networks(kept, mode):
    content = official_content(small())
    content["state_dict"] = {
        key: value for key, value in content["state_dict"].items() if key.split(".")[1] in kept
    }
    checkpoint = parse_official(content, source="f.ckpt")
    assert checkpoint.mode == mode
    assert checkpoint.inference_network().mode == mode
    with pytest.raises(CheckpointError, match=r"state_dict of f\.ckpt does not fit .*missing"):
        checkpoint.inference_network(mode="all")


def test_a_mode_chosen_from_a_whole_checkpoint():
    checkpoint = parse_official(official_content(small()), source="x")
    assert checkpoint.inference_network(mode="body").part_groups == {"body": 7}
    checkpoint.load_into(small(mode="face"))


def test_a_checkpoint_without_its_teacher():
    network = small(teacher=False)
    checkpoint = parse_official(official_content(network), source="x")
    assert checkpoint.networks == NETWORKS[1:]
    assert checkpoint.network().face_net is None
    with pytest.raises(CheckpointError, match=r"does not fit the network: .*missing: face_net"):
        checkpoint.load_into(small())


def test_a_teacher_is_no_network():
    state = {f"face_net.{key}": v for key, v in LMBN(3, width=WIDTH).state_dict().items()}
    checkpoint = parse_official({"state_dict": state}, source="t.pth")
    with pytest.raises(CheckpointError, match=r"t\.pth holds no stream .*only a teacher: train wi"):
        checkpoint.inference_network()


def test_the_variant_is_told_by_the_caller():
    checkpoint = parse_official(official_content(small()), source="x")
    for variant in ("deskpro", "standard"):
        network = checkpoint.inference_network(osnet_variant=variant)
        assert network.nocloth_net.backbone[3].variant == variant


def test_another_number_of_people():
    checkpoint = parse_official(official_content(small()), source="f.ckpt")
    message = r"state_dict of f\.ckpt does not fit.*classifier\.weight.*number of identities"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_into(small(4))
    checkpoint.inference_network()


def test_features_do_not_need_classifiers():
    network = small()
    state = {f"model.{key}": value for key, value in network.inference_state().items()}
    checkpoint = parse_official({"state_dict": state}, source="f.ckpt")
    assert checkpoint.num_pids is None
    assert checkpoint.epoch is None
    assert_equal_states(checkpoint.inference_network().state_dict(), network.inference_state())
    with pytest.raises(CheckpointError, match=r"f\.ckpt lacks the classifiers"):
        checkpoint.network()


@pytest.mark.parametrize("value", [None, [], {}, {"state_dict": {}}, {"model": {}}])
def test_other_layouts_are_not_official(value):
    with pytest.raises(CheckpointError, match=r"f is no checkpoint of the official DeskPro code"):
        parse_official(value, source="f")


def test_another_network():
    content = {"state_dict": {"conv1.weight": torch.zeros(1)}}
    message = r"state_dict of f belongs to no DeskPro network.*first ones are conv1\.weight"
    with pytest.raises(CheckpointError, match=message):
        parse_official(content, source="f")


def test_a_missing_first_convolution():
    content = official_content(small())
    content["state_dict"] = {
        key: value for key, value in content["state_dict"].items() if "backbone.0.conv" not in key
    }
    with pytest.raises(CheckpointError, match=r"lacks backbone\.0\.conv\.weight; its first keys"):
        parse_official(content, source="f").inference_network()


@pytest.mark.slow
def test_written_and_read_back(tmp_path):
    torch.manual_seed(0)
    network = DeskPro(2)
    path = tmp_path / "epoch=4-all_mAP=0.1000.ckpt"
    save_official(path, network, epoch=4, global_step=99)
    checkpoint = read_official(path)
    assert checkpoint.epoch == 4
    assert_equal_states(checkpoint.network().state_dict(), network.state_dict())
    stored = torch.load(path, weights_only=True)
    assert list(stored) == ["epoch", "global_step", "pytorch-lightning_version", "state_dict"]
    assert list(stored["state_dict"]) == list(official_state_dict(network))
    # Each tensor is in the file once, under both of its names.
    size = sum(value.nbytes for value in network.state_dict().values())
    assert path.stat().st_size < 1.2 * size
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: small(), r"there, OSNet has its full width\. Use the model\.safetensors"),
        (
            lambda: full_size(osnet_variant="standard"),
            r"there, its blocks are of the variant deskpro\. Use",
        ),
        (
            lambda: small(None, osnet_variant="standard"),
            r"full width and its blocks .* and there are classifiers\. Use",
        ),
    ],
)
def test_networks_that_the_official_code_does_not_have(network, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        save_official(tmp_path / "x.ckpt", network(), epoch=0, global_step=0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def yacs(monkeypatch):
    """A module as yacs is, for writing a file as Lightning does; gone before it is read."""

    class CfgNode(dict):
        def __init__(self, values):
            super().__init__(values)
            self.__dict__ |= {"__immutable__": False, "__deprecated_keys__": set()}

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    package, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", package)
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    yield CfgNode
    monkeypatch.delitem(sys.modules, "yacs", raising=False)


def save_with_settings(path, node):
    settings = node({"epochs": 140, "kd_loss": node({"alpha": 0.7})})
    content = official_content(small(mode="body"))
    torch.save({**content, "hyper_parameters": {"config": settings, "again": settings}}, path)


def test_settings_of_yacs_do_not_stand_in_the_way(yacs, tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    save_with_settings(path, yacs)
    monkeypatch.delitem(sys.modules, "yacs.config")
    monkeypatch.delitem(sys.modules, "yacs")
    checkpoint = read_official(path)
    expected = small(mode="body").state_dict()
    assert_equal_states(checkpoint.network().state_dict(), expected)
    assert "yacs" not in sys.modules


def test_an_installed_yacs_is_not_executed(yacs, tmp_path):
    path = tmp_path / "x.ckpt"
    save_with_settings(path, yacs)
    yacs.__setstate__ = yacs.__setitem__ = yacs.__new__ = None
    assert read_official(path).mode == "body"


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_malicious_file_is_refused_and_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    torch.save({**official_content(small(mode="body")), "hyper_parameters": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt is refused.*nothing of it was exec"):
        read_official(path)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder(tmp_path):
    torch.manual_seed(0)
    network = DeskPro(2, mode="body")
    with pytest.raises(OutputError, match=r"cannot write"):
        save_official(tmp_path / "no" / "x.ckpt", network, epoch=0, global_step=0)
