"""Networks from cards, exported files and ``<method>-embed``, of one and of two modalities."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.commands.arguments import EmbedArguments, ExportArguments
from reid_core.commands.embed import collect_images, embed_images, run_embed
from reid_core.commands.export import ExportError, run_export
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.config import DataConfig
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.images import decode_resized
from reid_core.engine.weights import save_weights
from reid_core.errors import CheckpointError, ConfigError

HEIGHT, WIDTH = 32, 16


@pytest.fixture
def two(networks, tmp_path) -> LoadedNetwork:
    return LoadedNetwork(
        method="toy",
        network=networks.TwoStreams().eval(),
        source=tmp_path,
        height=HEIGHT,
        width=WIDTH,
        card={},
        interpolation="lanczos",
        flip="none",
    )


@pytest.fixture
def images(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "images" / f"{number}.png" for number in range(5)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), np.uint8)).save(path)
    return paths


def card_of(**settings) -> dict:
    data = DataConfig(height=HEIGHT, width=WIDTH, **settings)
    return network_card("toy", "1", network={"dim": 4}, data=data, augment=AugmentConfig())


def test_filter_and_mirror_images_are_in_the_card(networks, tmp_path):
    def build(network):
        return networks.TwoStreams(dim=network["dim"])

    def load(card):
        path = save_weights(tmp_path / "model.safetensors", state, card)
        return load_own_network(path, method="toy", build=build)

    state = networks.TwoStreams(dim=4).state_dict()
    card = card_of(interpolation="lanczos", flip="none")
    loaded = load(card)
    assert (loaded.interpolation, loaded.flip) == ("lanczos", "none")
    # A card of an older version.
    del card["input"]["interpolation"], card["flip"]
    loaded = load(card)
    assert (loaded.interpolation, loaded.flip) == ("bilinear", "sum")
    for wrong in (
        {**card, "flip": "maybe"},
        {**card, "input": {**card["input"], "interpolation": 3}},
    ):
        with pytest.raises(CheckpointError, match="does not describe a network of toy"):
            load(wrong)


def by_hand(two, paths, infrared, *, index=0, flip="none"):
    pixels = [decode_resized(path, HEIGHT, WIDTH, two.interpolation) for path in paths]
    inputs = (torch.from_numpy(np.stack(pixels)) / 255 - torch.tensor(two.mean)[:, None, None]) / (
        torch.tensor(two.std)[:, None, None]
    )
    with torch.no_grad():
        features = two.network.embed_each(inputs, infrared)[:, index]
        if flip == "sum":
            features = features + two.network.embed_each(inputs.flip(3), infrared)[:, index]
    return torch.nn.functional.normalize(features).numpy()


@pytest.mark.parametrize(
    ("options", "index", "flip"),
    [({}, 0, "none"), ({"feature": "pool", "flip": "sum"}, 1, "sum")],
)
def test_images_of_a_table_and_others_are_embedded_by_their_modality(
    two, images, tmp_path, options, index, flip
):
    table = tmp_path / "images" / "table.csv"
    table.write_text("path,modality,pid\n0.png,infrared,7\n1.png,,8\n", encoding="utf-8")
    out = tmp_path / "features.npz"
    arguments = EmbedArguments(
        paths=(table, *images[2:]),
        weights=tmp_path,
        device="cpu",
        out=out,
        modality="visible",
        **options,
    )
    run_embed(two, arguments)
    arrays = np.load(out)
    infrared = torch.tensor([True, False, False, False, False])
    expected = by_hand(two, images, infrared, index=index, flip=flip)
    np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)
    assert arrays["modality"].tolist() == ["infrared", *["visible"] * 4]


def test_a_table_alone_is_enough_and_one_modality_is_too(two, images, tmp_path):
    table = tmp_path / "images" / "table.csv"
    table.write_text("path,modality\n0.png,infrared\n1.png,visible\n", encoding="utf-8")
    arguments = EmbedArguments(paths=(table,), weights=tmp_path, device="cpu")
    arrays = embed_images(two, collect_images(arguments.paths), arguments, None)
    expected = by_hand(two, images[:2], torch.tensor([True, False]))
    np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)
    arguments = EmbedArguments(
        paths=(images[0].parent,),
        weights=tmp_path,
        device="cpu",
        modality="infrared",
        out=tmp_path / "a.npz",
    )
    table.unlink()
    run_embed(two, arguments)
    expected = by_hand(two, images, torch.ones(5, dtype=torch.bool))
    np.testing.assert_allclose(
        np.load(tmp_path / "a.npz")["features"], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "path,modality\n0.png,infrared\n1.png,\n",
            r"the modality of \S*1.png is not known; give --m",
        ),
        ("path\n0.png\n", r"the modality of \S*0.png is not known; give --modality visible or"),
        ("path,modality\n0.png,thermal\n", r"0.png is 'thermal'; visible or infrared is expected"),
    ],
)
def test_a_network_of_two_modalities_is_not_left_to_guess(two, images, tmp_path, table, message):
    path = tmp_path / "images" / "table.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        run_embed(
            two,
            EmbedArguments(paths=(path,), weights=tmp_path, device="cpu", out=tmp_path / "out.npz"),
        )
    assert not (tmp_path / "out.npz").exists()


def test_other_networks_need_no_modality(two, networks, images, tmp_path):
    one = dataclasses.replace(two, network=networks.OneStream().eval())
    arguments = EmbedArguments(
        paths=tuple(images), weights=tmp_path, device="cpu", out=tmp_path / "out.npz"
    )
    run_embed(one, arguments)
    arrays = np.load(tmp_path / "out.npz")
    assert set(arrays) == {"features", "path"}
    expected = by_hand(two, images, torch.zeros(5, dtype=torch.bool))
    np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="no feature 'pool'; it has one feature only"):
        run_embed(one, dataclasses.replace(arguments, feature="pool"))


def inputs_of(count: int) -> dict[str, torch.Tensor]:
    images = torch.rand((count, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(count))
    return {"images": images, "infrared": torch.arange(count) % 3 == 1}


def expected_of(two, inputs, *, index=0, flip="none"):
    images = (inputs["images"] - torch.tensor(two.mean)[:, None, None]) / torch.tensor(two.std)[
        :, None, None
    ]
    features = [
        two.network.embed_each(x, inputs["infrared"])[:, index] for x in (images, images.flip(3))
    ]
    if flip == "mean":
        features = [torch.nn.functional.normalize(feature) for feature in features]
    total = features[0] if flip == "none" else features[0] + features[1]
    return torch.nn.functional.normalize(total).detach()


@pytest.mark.parametrize(
    ("options", "index", "flip"),
    [({}, 0, "none"), ({"feature": "pool", "flip": "mean"}, 1, "mean")],
)
def test_a_pt2_file_takes_both_modalities_in_one_batch(two, tmp_path, options, index, flip, capsys):
    run_export(two, ExportArguments(weights=tmp_path, format="pt2", **options))
    program = torch.export.load(tmp_path / "model.pt2")
    assert any(name.startswith("network.") for name in program.state_dict)
    module = program.module()
    for count in (1, 4, 9):
        inputs = inputs_of(count)
        expected = expected_of(two, inputs, index=index, flip=flip)
        torch.testing.assert_close(module(*inputs.values()), expected, rtol=1e-4, atol=1e-5)
    card = json.loads((tmp_path / "model.pt2.json").read_text(encoding="utf-8"))
    assert card["input"]["shape"] == ["batch", 3, HEIGHT, WIDTH]
    assert "lanczos" in card["input"]["values"]
    assert card["modality_input"]["dtype"] == "bool"
    assert (card["feature"], card["flip"]) == (("fc", "pool")[index], flip)
    assert card["largest_difference_to_pytorch"] < 1e-5
    assert "images (batch, 3, 32, 16) in [0, 1] and infrared (batch) to unit" in " ".join(
        capsys.readouterr().out.split()
    )


def test_an_onnx_file_takes_both_modalities_in_one_batch(two, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run_export(two, ExportArguments(weights=tmp_path, format="onnx", flip="sum"))
    session = runtime.InferenceSession(
        (tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    assert [item.name for item in session.get_inputs()] == ["images", "infrared"]
    assert [item.type for item in session.get_inputs()] == ["tensor(float)", "tensor(bool)"]
    for count in (1, 4, 9):
        inputs = inputs_of(count)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        found = torch.from_numpy(session.run(None, arrays)[0])
        expected = expected_of(two, inputs, flip="sum")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_mixes_modalities_up_is_not_written(two, networks, tmp_path):
    """An export that froze the modality of its example is found out."""

    class Frozen(networks.TwoStreams):
        def embed_each(self, images, infrared):
            if torch.compiler.is_compiling():
                infrared = torch.zeros_like(infrared)
            return super().embed_each(images, infrared)

    frozen = dataclasses.replace(two, network=Frozen().eval())
    with pytest.raises(ExportError, match="pt2 file differs from PyTorch by"):
        run_export(frozen, ExportArguments(weights=tmp_path, format="pt2"))
    assert not (tmp_path / "model.pt2").exists()
