"""``<method>-embed`` and ``-export`` of networks with companions and parts."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.commands.arguments import EmbedArguments, EvaluateArguments, ExportArguments
from reid_core.commands.embed import run_embed, write_features
from reid_core.commands.evaluate import evaluate_weights
from reid_core.commands.evaluate_features import evaluate_features
from reid_core.commands.export import ExportError, run_export
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.results import MethodInfo
from reid_core.data.images import decode_resized
from reid_core.errors import ConfigError, DatasetNotFoundError, FeatureFileError, ImageFileError
from reid_core.evaluation.cli import FeatureArguments
from reid_core.evaluation.tables.feature_readers import read_feature_tables

HEIGHT, WIDTH = 48, 16
FACE = (32, 24)
DIM = 4
NUM_PIDS = 4
WITHOUT_FACE = (0, 3, 14)
TOY = MethodInfo(name="toy", title="Toy", version="1", citation="A", source="A", published={})


@pytest.fixture
def loaded(networks, tmp_path) -> LoadedNetwork:
    return LoadedNetwork(
        method="toy",
        network=networks.InParts().eval(),
        source=tmp_path,
        height=HEIGHT,
        width=WIDTH,
        card={},
    )


@pytest.fixture
def data(tmp_path) -> Path:
    """Celeb-reID with eight queries and sixteen gallery images."""
    root = tmp_path / "data" / "Celeb-reID"
    rng = np.random.default_rng(0)
    looks = rng.integers(60, 196, (NUM_PIDS, 8, 4, 3))
    for split, num_files in (("train", 1), ("query", 2), ("gallery", 4)):
        for number in range(NUM_PIDS * num_files):
            look = looks[number % NUM_PIDS]
            path = root / split / f"{number % NUM_PIDS + 1}_{number // NUM_PIDS + 1}_0.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(look + rng.normal(0, 50, look.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def prepared(data, tmp_path) -> Path:
    """Face crops of most of the images."""
    folder = tmp_path / "prepared"
    rng = np.random.default_rng(1)
    for number, path in enumerate(images_of_test(data)):
        face = folder / "lr_face" / path.relative_to(data).with_suffix(".png")
        face.parent.mkdir(parents=True, exist_ok=True)
        if number not in WITHOUT_FACE:
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(face)
    return folder


def images_of_test(data: Path) -> list[Path]:
    return [path for split in ("query", "gallery") for path in sorted((data / split).iterdir())]


def embed(loaded: LoadedNetwork, *paths: Path, **options):
    arguments = EmbedArguments(paths=paths, weights=loaded.source, device="cpu", **options)
    run_embed(loaded, arguments)
    return arguments.out


def by_hand(loaded: LoadedNetwork, images: list[Path], faces: list[Path | None]) -> np.ndarray:
    """Return (N, D, P) of image and mirror image, part by part."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))

    def picture(path: Path | None, height: int, width: int) -> torch.Tensor:
        if path is None:
            return torch.zeros(1, 3, height, width)
        return ((torch.from_numpy(decode_resized(path, height, width)) / 255 - mean) / std)[None]

    rows = []
    for image, face in zip(images, faces, strict=True):
        pair = picture(image, HEIGHT, WIDTH), picture(face, *FACE)
        with torch.no_grad():
            both = loaded.network.embed(*pair) + loaded.network.embed(*(x.flip(3) for x in pair))
        rows.append(torch.nn.functional.normalize(both.view(-1, DIM)).T)
    return torch.stack(rows).numpy()


def face_of(image: Path, data: Path, prepared: Path) -> Path | None:
    path = prepared / "lr_face" / image.relative_to(data).with_suffix(".png")
    return path if path.exists() else None


@pytest.mark.parametrize("sources", [("",), ("query", "gallery"), ("query/1_1_0.jpg",)])
def test_faces_are_found_wherever_the_images_are_named(loaded, data, prepared, tmp_path, sources):
    out = tmp_path / "features.npz"
    embed(loaded, *(data / source for source in sources), prepared=prepared, out=out)
    arrays = np.load(out)
    images = [Path(path) for path in arrays["path"]]
    faces = [face_of(image, data, prepared) for image in images]
    expected = by_hand(loaded, images, faces)
    assert arrays["features"].shape == (len(images), DIM, 5)
    np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)
    assert (arrays["features"][[face is None for face in faces]][:, :, :2] == 0).all()
    lengths = np.linalg.norm(arrays["features"][[face is not None for face in faces]], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_what_was_written_is_said(loaded, data, prepared, tmp_path, capsys):
    embed(loaded, data / "query", data / "gallery", prepared=prepared, out=tmp_path / "f.npz")
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "24 features of 4 x 5 numbers (the last: parts, each scaled by itself), 3 of the images "
        "without a face crop" in shown
    )


def test_a_table_names_faces(loaded, data, prepared, tmp_path):
    images = images_of_test(data)[4:8]
    other = tmp_path / "elsewhere.png"
    Image.new("RGB", (5, 5), (200, 10, 10)).save(other)
    table = tmp_path / "table.csv"
    named = (other.name, "", other, "")
    lines = [f"{image},{face}" for image, face in zip(images, named, strict=True)]
    table.write_text("path,lr_face\n" + "\n".join(lines) + "\n", encoding="utf-8")
    out = embed(loaded, table, out=tmp_path / "f.npz")
    expected = by_hand(loaded, images, [other, None, other, None])
    np.testing.assert_allclose(np.load(out)["features"], expected, rtol=1e-4, atol=1e-5)
    # What it does not name is looked up.
    out = embed(loaded, table, out=tmp_path / "f.npz", prepared=prepared)
    faces = [face_of(image, data, prepared) for image in images]
    faces[0] = faces[2] = other
    expected = by_hand(loaded, images, faces)
    np.testing.assert_allclose(np.load(out)["features"], expected, rtol=1e-4, atol=1e-5)


def test_faces_that_are_nowhere(loaded, data, prepared, tmp_path, caplog):
    out = tmp_path / "f.npz"
    with pytest.raises(ConfigError, match=r"a face crop beside each image; .* by --feature body"):
        embed(loaded, data, out=out)
    only_face = loaded.choose(feature="face")
    with pytest.raises(ConfigError, match=r"\(empty for an image that has none\)$"):
        embed(only_face, data, out=out)
    with pytest.raises(DatasetNotFoundError, match="there is no prepared folder"):
        embed(loaded, data, out=out, prepared=tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"holds no face crop of any of the 28 images \(looked"):
        embed(loaded, data, out=out, prepared=data)
    assert not out.exists()
    with caplog.at_level(logging.WARNING):
        embed(loaded, data, out=out, prepared=prepared, feature="body")
    assert "--prepared has no effect" in caplog.text
    assert np.load(out)["features"].shape == (28, DIM, 3)


def test_damaged_faces(loaded, data, prepared, tmp_path, caplog):
    images = images_of_test(data)
    face_of(images[5], data, prepared).write_bytes(b"no picture")
    with pytest.raises(ImageFileError):
        embed(loaded, data / "query", prepared=prepared, out=tmp_path / "f.npz")
    with caplog.at_level(logging.WARNING):
        out = embed(
            loaded, data / "query", prepared=prepared, out=tmp_path / "f.npz", skip_corrupt=True
        )
    assert "damaged companions taken for missing: 1" in caplog.text
    assert (np.load(out)["features"][5, :, :2] == 0).all()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embedded_parts_give_reid_eval_the_figures_of_the_method(
    loaded, data, prepared, tmp_path, suffix, capsys, own_loggers
):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    evaluate_weights(
        lambda path: loaded,
        EvaluateArguments(
            weights=tmp_path,
            data=str(data),
            dataset="celeb",
            prepared=prepared,
            device="cpu",
            cache="memory",
            out=tmp_path / "eval",
            queries=1,
        ),
        TOY,
        command="toy-eval",
    )
    record = json.loads((tmp_path / "eval" / "results.json").read_text(encoding="utf-8"))
    expected = record["results"]["celeb/standard"]
    assert expected["scoring"] == "sum of the cosines of 5 parts"
    note = "2 of 8 query images and 1 of 16 gallery images have no face crop; they are compared"
    assert expected["notes"][0].startswith(note)
    assert record["missing"] == {
        "lr_face": {
            "query": {"images": 8, "missing": 2},
            "gallery": {"images": 16, "missing": 1},
        }
    }
    assert set(record["variants"]) == {"face stream", "body stream"}
    assert note in " ".join(capsys.readouterr().out.split())
    assert note in (tmp_path / "eval" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "eval" / "queries-celeb-standard-face-stream.csv").is_file()

    table = tmp_path / "table.csv"
    lines = []
    for image in images_of_test(data):
        split, pid = image.parent.name, image.name.partition("_")[0]
        lines.append(f"{image},{pid},0,{split}")
    table.write_text("path,pid,camid,split\n" + "\n".join(lines) + "\n", encoding="utf-8")
    out = embed(loaded, table, prepared=prepared, out=tmp_path / f"features.{suffix}")
    evaluate_features(
        FeatureArguments(
            features=(str(out),),
            protocol=(("celeb/standard",),),
            out=tmp_path / "features",
            device="cpu",
            queries=0,
        ),
        command="reid-eval",
    )
    record = json.loads((tmp_path / "features" / "results.json").read_text(encoding="utf-8"))
    found = record["results"]["celeb/standard"]
    for name in ("rank1", "rank5", "mAP", "mINP", "scoring"):
        assert found[name] == expected[name], name


def test_parts_in_a_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    features = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"features": features, "path": np.array(["a", "b"]), "pid": np.array([1, 2])}
    write_features(tmp_path / "f.parquet", arrays)
    (table,) = read_feature_tables(tmp_path / "f.parquet")
    np.testing.assert_array_equal(table.features, features)
    import pyarrow as pa
    import pyarrow.parquet as pq

    ragged = pa.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0]]])
    pq.write_table(pa.table({"features": ragged, "pid": [1, 2]}), tmp_path / "g.parquet")
    with pytest.raises(FeatureFileError, match="row 1 has 1 features, row 0 has 2"):
        read_feature_tables(tmp_path / "g.parquet")


def inputs_of(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.rand((count, 3, HEIGHT, WIDTH), generator=generator)
    faces = torch.rand((count, 3, *FACE), generator=generator)
    faces[::3] = 0
    return {"images": images, "lr_face": faces}


def expected_of(loaded: LoadedNetwork, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))
    images, faces = ((value - mean) / std for value in inputs.values())
    faces[::3] = 0  # missing ones are zero after the normalisation
    both = [loaded.network.embed(images, faces)]
    both.append(loaded.network.embed(images.flip(3), faces.flip(3)))
    parts = (both[0] + both[1]).view(len(images), -1, DIM)
    return torch.nn.functional.normalize(parts, dim=2).flatten(1).detach()


def test_a_pt2_file_takes_faces_by_name(loaded, tmp_path, capsys):
    run_export(loaded, ExportArguments(weights=tmp_path, format="pt2"))
    module = torch.export.load(tmp_path / "model.pt2").module()
    for count in (1, 4, 9):
        inputs = inputs_of(count)
        found = module(inputs["images"], lr_face=inputs["lr_face"])
        torch.testing.assert_close(found, expected_of(loaded, inputs), rtol=1e-4, atol=1e-5)
    card = json.loads((tmp_path / "model.pt2.json").read_text(encoding="utf-8"))
    (companion,) = card["companion_inputs"]
    assert (companion["name"], companion["shape"]) == ("lr_face", ["batch", 3, *FACE])
    assert companion["values"].endswith("all zero for an image that has none")
    assert card["output"]["parts"] == {"face": 2, "body": 3}
    assert "images (batch, 3, 48, 16), lr_face (batch, 3, 32, 24) in [0, 1] to features of 5" in (
        " ".join(capsys.readouterr().out.split())
    )


def test_an_onnx_file_takes_faces(loaded, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run_export(loaded, ExportArguments(weights=tmp_path, format="onnx"))
    session = runtime.InferenceSession(
        (tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    assert [item.name for item in session.get_inputs()] == ["images", "lr_face"]
    for count in (1, 4, 9):
        inputs = inputs_of(count)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        np.testing.assert_allclose(found, expected_of(loaded, inputs), rtol=1e-4, atol=1e-5)


def test_a_group_of_parts_is_exported_without_the_faces_of_the_other(loaded, tmp_path):
    run_export(loaded, ExportArguments(weights=tmp_path, format="pt2", feature="body"))
    inputs = inputs_of(4)
    found = torch.export.load(tmp_path / "model.pt2").module()(inputs["images"])
    expected = expected_of(loaded, inputs)[:, 2 * DIM :]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    card = json.loads((tmp_path / "model.pt2.json").read_text(encoding="utf-8"))
    assert card["output"]["parts"] == {"body": 3}
    assert "companion_inputs" not in card


@pytest.mark.parametrize("wrong", [float("nan"), 3.0])
def test_a_file_that_differs_where_faces_are_missing_is_not_written(
    loaded, networks, tmp_path, wrong
):
    class Spoilt(networks.InParts):
        def embed(self, images, faces):
            features = super().embed(images, faces)
            if not torch.compiler.is_compiling():
                return features
            missing = ~faces.flatten(1).any(1, keepdim=True)
            return torch.where(missing, wrong, features)

    spoilt = dataclasses.replace(loaded, network=Spoilt().eval())
    with pytest.raises(ExportError, match="pt2 file differs from PyTorch by"):
        run_export(spoilt, ExportArguments(weights=tmp_path, format="pt2"))
    assert not (tmp_path / "model.pt2").exists()


def test_faces_that_are_left_out_are_asked_for(loaded):
    with pytest.raises(ValueError, match="looks at lr_face beside the images; give it, too"):
        loaded.inference_model()(inputs_of(2)["images"])
