"""Start weights: ImageNet's cache and its absence, files of every kind, files that do not fit."""

from __future__ import annotations

import os
import re
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from reid_core.errors import CheckpointError
from reid_core.models import ResNet

IMAGENET_FILE = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def imagenet_like():
    """A complete torchvision state dict, classifier included."""
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=10).state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache folder and no network."""

    def refuse(url, *args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def assert_loaded(trunk, state):
    for key, value in trunk.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_imagenet_comes_from_the_cache(hub, imagenet_like):
    torch.save(imagenet_like, hub / IMAGENET_FILE)
    assert_loaded(ResNet("resnet18", weights="imagenet"), imagenet_like)


def test_without_network_the_message_says_what_to_do(hub):
    with pytest.raises(CheckpointError) as caught:
        ResNet("resnet18", weights="imagenet")
    message = str(caught.value)
    assert f"https://download.pytorch.org/models/{IMAGENET_FILE}" in message
    assert "Name or service not known" in message
    assert str(hub / IMAGENET_FILE) in message
    assert "--model.weights FILE" in message
    assert "--model.weights none" in message


def test_damaged_cache(hub):
    (hub / IMAGENET_FILE).write_bytes(b"half of a download")
    with pytest.raises(
        CheckpointError, match=r"cached ImageNet weights cannot be read; delete .*damaged"
    ):
        ResNet("resnet18", weights="imagenet")


@pytest.mark.parametrize("kind", ["plain", "nested", "module", "no_counters", "safetensors"])
def test_files(kind, imagenet_like, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(imagenet_like, path)
    elif kind == "nested":
        torch.save({"state_dict": imagenet_like, "epoch": 3}, path)
    elif kind == "module":
        torch.save({f"module.{key}": value for key, value in imagenet_like.items()}, path)
    elif kind == "no_counters":  # as in torchvision's files of 2017
        state = {k: v for k, v in imagenet_like.items() if not k.endswith("num_batches_tracked")}
        torch.save(state, path)
    else:
        torch.save(imagenet_like, path)
    assert_loaded(ResNet("resnet18", weights=path), imagenet_like)
    assert_loaded(ResNet("resnet18", weights=str(path)), imagenet_like)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def resized(state):
    return {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}


def without_stage(state):
    return {key: value for key, value in state.items() if not key.startswith("layer4")}


BAD_FILES = {
    "missing": (None, r"there is no file .*w\.pth"),
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"hello world", r"damaged or no PyTorch checkpoint"),
    "malicious": ({"conv1.weight": Malicious()}, r"refused: it holds .*mkdir.*nothing of it was"),
    "no dict": ([1, 2], r"holds no state dict \(names with tensors\), but a list"),
    "no tensors": ({"epoch": 3}, r"holds no state dict"),
    "shape": (
        resized,
        r"does not fit the network: 1 with another shape: conv1\.weight \(64, 1, 7, 7\) instead of "
        r"\(64, 3, 7, 7\)\. Give weights of a resnet18\.",
    ),
    "missing keys": (without_stage, r"missing: layer4\.0\.conv1\.weight, .* and 20 more"),
    "unknown keys": (
        lambda state: {**state, "layer5.weight": torch.zeros(1)},
        r"1 unknown: layer5\.weight",
    ),
}


@pytest.mark.parametrize("case", list(BAD_FILES))
def test_bad_files(case, imagenet_like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = BAD_FILES[case]
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content(imagenet_like) if callable(content) else content, path)
    with pytest.raises(CheckpointError, match=message):
        ResNet("resnet18", weights=path)
    assert not (tmp_path / "executed").exists()


def test_a_deeper_networks_file_is_refused_although_its_keys_include_ours(tmp_path):
    state = torchvision.models.resnet34().state_dict()
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"unknown: layer1\.2\.conv1\.weight"):
        ResNet("resnet18", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_bad_safetensors(content, tmp_path):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"cannot read the weights {path}")):
        ResNet("resnet18", weights=path)
