"""Official checkpoints: read, written, recognised; what is refused and why."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from reid_aim.model import AIM, IDBranch
from reid_aim.weights import (
    PARTS,
    parse_official,
    read_official,
    save_official,
    to_official,
)
from reid_core.errors import CheckpointError, OutputError


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = AIM(num_pids=4, num_clothes=7, backbone="resnet10")
    network(torch.randn(2, 3, 128, 64))  # running statistics that are not the initial ones
    return network.eval()


@pytest.fixture
def content(network):
    return to_official(network, rank1=0.408, epoch=94)


def assert_equal_states(found, expected):
    found, expected = found.state_dict(), expected.state_dict()
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_written_and_read_back(network, tmp_path):
    path = tmp_path / "ltcc.pth.tar"
    save_official(path, network, rank1=0.408, epoch=94)
    checkpoint = read_official(path)
    assert (checkpoint.method, checkpoint.rank1, checkpoint.epoch) == ("AIM", 0.408, 94)
    assert_equal_states(checkpoint.network(), network)
    assert_equal_states(checkpoint.id_branch(), network.model)
    assert not checkpoint.network().training
    assert not checkpoint.id_branch().training


def test_layout_of_a_written_file(network, tmp_path):
    path = tmp_path / "ltcc.pth.tar"
    save_official(path, network, rank1=0.408, epoch=94)
    stored = torch.load(path, weights_only=False)
    assert list(stored) == [*(f"{part}_state_dict" for part in PARTS), "rank1", "epoch"]
    assert type(stored["rank1"]) is np.float64
    assert type(stored["epoch"]) is int
    assert stored["model2_state_dict"]["features.fc.weight"].shape == (1000, 512)
    assert list(tmp_path.iterdir()) == [path]


def test_written_values_are_copies(network, content):
    before = network.model.bn.weight.clone()
    content["model_state_dict"]["bn.weight"].zero_()
    assert torch.equal(network.model.bn.weight, before)


@pytest.mark.parametrize("module", [None, b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_file_formats_and_numpy_generations(module, network, content, tmp_path):
    path = tmp_path / "old.pth.tar"
    content["epoch"] = np.int64(7)
    torch.save(content, path, _use_new_zipfile_serialization=module is None)
    if module is not None:  # the format before PyTorch 1.6, from NumPy 1 or 2
        data = path.read_bytes()
        for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
            data = data.replace(name, module)
        assert module in data
        path.write_bytes(data)
    checkpoint = read_official(path)
    assert (checkpoint.rank1, checkpoint.epoch) == (0.408, 7)
    assert_equal_states(checkpoint.network(), network)


def test_identity_branch_alone_suffices_for_evaluation(network, content):
    checkpoint = parse_official(
        {"model_state_dict": content["model_state_dict"]}, source="released file"
    )
    assert (checkpoint.rank1, checkpoint.epoch) == (None, None)
    assert_equal_states(checkpoint.id_branch(), network.model)
    with pytest.raises(
        CheckpointError, match=r"released file lacks model2_state_dict, fuse_state_dict.*evaluated"
    ):
        checkpoint.network()


def test_parallel_prefix_older_fusion_name_and_unused_classifier(network, content):
    for part in PARTS:
        state = content[f"{part}_state_dict"]
        content[f"{part}_state_dict"] = {f"module.{key}": value for key, value in state.items()}
    fuse = content["fuse_state_dict"]
    fuse["module.trans.weight"] = fuse.pop("module.linear.weight")
    del content["model2_state_dict"]["module.features.fc.bias"]
    assert_equal_states(parse_official(content, source="x").network(), network)


def test_cal_checkpoint_gives_the_identity_branch(network, content):
    names = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for key, value in content["model_state_dict"].items():
        first, _, rest = key.partition(".")
        state[f"base.{names[first]}.{rest}" if first in names else key] = value
    checkpoint = parse_official({"model_state_dict": state, "rank1": 0.4}, source="cal")
    assert (checkpoint.method, checkpoint.rank1) == ("CAL", 0.4)
    assert_equal_states(checkpoint.id_branch(), network.model)


def test_cosine_identity_classifier_round_trip():
    network = AIM(num_pids=3, num_clothes=5, backbone="resnet10", cosine_identity=True)
    content = to_official(network, rank1=0.0, epoch=0)
    assert_equal_states(parse_official(content, source="x").network(), network)


def test_gem_is_recognised_and_plain_pooling_must_be_named():
    for pooling in ("gem", "avg"):
        state = IDBranch("resnet10", pooling=pooling).state_dict()
        checkpoint = parse_official({"model_state_dict": state}, source="file.pth")
        if pooling == "avg":
            message = r"file\.pth do not tell whether average or maximum .*pooling='avg'"
            with pytest.raises(CheckpointError, match=message):
                checkpoint.id_branch()
            checkpoint.id_branch(pooling="avg")
        else:
            assert "globalpooling.p" in checkpoint.id_branch().state_dict()


def test_last_stride_is_taken_from_the_caller(content):
    checkpoint = parse_official(content, source="x")
    assert checkpoint.id_branch(last_stride=2).layer4[0].conv1.stride == (2, 2)
    assert checkpoint.network().model2.features.layer4[0].conv1.stride == (1, 1)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"state_dict": {}}, {"model_state_dict": {}}, {"model_state_dict": 1}]
)
def test_other_layouts_are_not_official(value):
    with pytest.raises(CheckpointError, match=r"f\.pth is no checkpoint of the official AIM code"):
        parse_official(value, source="f.pth")


def changed(part, change):
    """Return a function that replaces one part's state dict."""

    def apply(content):
        name = f"{part}_state_dict"
        return {**content, name: change(content[name])}

    return apply


BAD_CONTENTS = {
    "other number of people": (
        changed("classifier", lambda s: {key: value[:2] for key, value in s.items()}),
        r"classifier_state_dict of f\.pth does not fit.*\(2, 1024\) instead of \(4, 1024\).*numbers"
        r" of identities",
    ),
    "part is no state dict": (
        changed("fuse", lambda s: [1]),
        r"fuse_state_dict of f\.pth must map names to tensors",
    ),
    "missing key": (
        changed("fuse", lambda s: {k: v for k, v in s.items() if k != "bn.bias"}),
        r"fuse_state_dict of f\.pth does not fit the network: 1 missing: bn\.bias",
    ),
    "no trunk": (
        changed("model", lambda s: {"head.weight": torch.zeros(1)}),
        r"model_state_dict of f\.pth belongs to no known ResNet; its first keys are head\.weight",
    ),
}


@pytest.mark.parametrize("case", list(BAD_CONTENTS))
def test_bad_contents(case, network, content):
    change, message = BAD_CONTENTS[case]

    def use():
        checkpoint = parse_official(change(content), source="f.pth")
        checkpoint.id_branch()
        checkpoint.load_into(network)

    with pytest.raises(CheckpointError, match=message):
        use()


def test_classifiers_without_weights(content):
    content["classifier_state_dict"] = {"bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"classifiers in f\.pth hold no weight.*'bias'"):
        parse_official(content, source="f.pth").network()


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_is_refused_and_executes_nothing(zipped, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth.tar"
    torch.save({**content, "rank1": Malicious()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth\.tar is refused.*nothing of it was exec"):
        read_official(path)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_truncated_files(content, tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file"):
        read_official(tmp_path / "none.pth")
    path = tmp_path / "half.pth"
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"half\.pth .*damaged"):
        read_official(path)


def test_writing_into_a_missing_folder(network, tmp_path):
    with pytest.raises(OutputError, match=r"cannot write"):
        save_official(tmp_path / "no" / "x.pth", network, rank1=0.0, epoch=0)
