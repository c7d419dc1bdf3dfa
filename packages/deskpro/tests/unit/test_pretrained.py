"""Start weights of OSNet."""

from __future__ import annotations

import pytest
import torch

from reid_core.errors import CheckpointError, ConfigError
from reid_deskpro.lmbn import LMBN
from reid_deskpro.model import DeskPro
from reid_deskpro.osnet import OSNetTrunk
from reid_deskpro.pretrained import find_osnet, load_osnet


@pytest.fixture
def stored():
    """Contents as torchreid saves them: with heads that are not used."""
    torch.manual_seed(7)
    state = OSNetTrunk(width=0.25, variant="standard").state_dict()
    heads = {"fc.0.weight": torch.zeros(8, 8), "classifier.weight": torch.zeros(3, 8)}
    return {f"module.{key}": value for key, value in {**state, **heads}.items()}


@pytest.mark.parametrize("form", ["plain", "state_dict"])
def test_all_networks_start_from_a_file(stored, tmp_path, form):
    path = tmp_path / "osnet.pth"
    torch.save(stored if form == "plain" else {"state_dict": stored}, path)
    torch.manual_seed(0)
    network = DeskPro(3, width=0.25, weights=path)
    for lmbn in (network.face_net, network.lr_face_net, network.nocloth_net):
        pairs = {
            "backbone.0.conv.weight": "conv1.conv.weight",
            "backbone.2.1.conv2b.0.conv1.weight": "conv2.1.conv2b.0.conv1.weight",
            "backbone.3.conv2a.bn.running_var": "conv3.0.conv2a.bn.running_var",
        }
        for branch in ("global", "part", "channel"):
            pairs |= {
                f"{branch}_branch.backbone2.0.1.conv3.conv.weight": "conv3.1.conv3.conv.weight",
                f"{branch}_branch.backbone2.0.2.0.conv.weight": "conv3.2.0.conv.weight",
                f"{branch}_branch.backbone2.1.1.gate.fc1.bias": "conv4.1.gate.fc1.bias",
                f"{branch}_branch.backbone2.2.bn.weight": "conv5.bn.weight",
            }
        state = lmbn.state_dict()
        for own, theirs in pairs.items():
            assert torch.equal(state[own], stored[f"module.{theirs}"]), own


def test_none_leaves_the_network_as_it_is():
    torch.manual_seed(0)
    first = LMBN(3, width=1 / 16).state_dict()
    torch.manual_seed(0)
    second = LMBN(3, width=1 / 16, weights="none").state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_cached_imagenet_file(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    trunk = OSNetTrunk(width=0.25)
    message = r"no file .*checkpoints.*osnet_x0_25_imagenet\.pth.*model zoo of torchreid.*FILE"
    with pytest.raises(CheckpointError, match=message):
        load_osnet(trunk, "imagenet", width=0.25)
    (tmp_path / "checkpoints").mkdir()
    torch.save(stored, tmp_path / "checkpoints" / "osnet_x0_25_imagenet.pth")
    load_osnet(trunk, "imagenet", width=0.25)
    for key, value in trunk.state_dict().items():
        assert torch.equal(value, stored[f"module.{key}"]), key


def test_no_imagenet_weights_of_a_width():
    message = r"no ImageNet weights for an OSNet of width 0\.0625.*with weights: 1, 0\.75, 0\.5"
    with pytest.raises(ConfigError, match=message):
        LMBN(3, width=1 / 16, weights="imagenet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("module.conv5.bn.weight"), r"1 missing: conv5\.bn\.weight"),
        (
            lambda state: state.update({"module.conv1.conv.weight": torch.zeros(64, 3, 7, 7)}),
            r"1 with another shape: conv1\.conv\.weight \(64, 3, 7, 7\) instead of \(16, 3, 7, 7\)",
        ),
        (lambda state: state.update({"module.x": torch.zeros(1)}), r"1 unknown: x"),
    ],
)
def test_files_that_do_not_fit(stored, tmp_path, change, message):
    change(stored)
    path = tmp_path / "osnet.pth"
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match=rf"osnet\.pth does not fit the network: {message}"):
        load_osnet(OSNetTrunk(width=0.25), path, width=0.25)


def test_files_are_found_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_osnet("none", width=0.3) is None
    with pytest.raises(CheckpointError, match=r"no file .*osnet_x1_0_imagenet\.pth"):
        find_osnet("imagenet", width=1.0)
    with pytest.raises(CheckpointError, match=r"there is no file x\.pth with weights of OSNet"):
        find_osnet("x.pth", width=1.0)
    path = tmp_path / "osnet.pth"
    path.touch()
    assert find_osnet(str(path), width=1.0) == path


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*x\.pth"):
        load_osnet(OSNetTrunk(width=0.25), tmp_path / "x.pth", width=0.25)
