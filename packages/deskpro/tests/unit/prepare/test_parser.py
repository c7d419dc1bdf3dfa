"""Label maps from an ONNX model; the model here is made by hand."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reid_core.errors import ConfigError
from reid_deskpro.prepare.config import ParserConfig
from reid_deskpro.prepare.parser import open_parser

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LABELS = 20


def write_model(path, *, size=(12, 6), labels=LABELS, channels=3, output="logits"):
    """Write a model: label k of a pixel is the likelier, the nearer its colours are to k."""
    from onnx import TensorProto, helper, numpy_helper

    # Logits 2 k s - k^2 are largest where the sum s of the channels is nearest to k.
    numbers = np.arange(labels, dtype=np.float32)
    weight = np.tile(2 * numbers[:, None, None, None], (1, channels, 1, 1))
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["numbers"], axis=1, keepdims=0),
    ]
    height, width = size
    shape = [1, labels, height, width]
    graph = helper.make_graph(
        nodes,
        "parser",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, height, width])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("numbers", TensorProto.INT64, [1, height, width]),
        ],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(-(numbers**2), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


# Pixels in [0, 1] become 20 times their red; green and blue do not count.
RED = ParserConfig(mean=(0, 0, 0), std=(1 / 20, 1e9, 1e9))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "parser.onnx")


def picture(height=12, width=6):
    pixels = np.random.default_rng(0).integers(0, 240, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def expected(image, channel=0):
    red = np.asarray(image, np.float64)[:, :, channel] / 255 * 20
    return np.clip(np.rint(red), 0, LABELS - 1)


@pytest.mark.parametrize("output", ["", "logits", "numbers"])
def test_labels_are_those_of_the_likeliest(model, output):
    settings = ParserConfig(mean=RED.mean, std=RED.std, output=output)
    found = open_parser(model, "", "lip", settings, 1).parse(picture())
    assert found.dtype == np.uint8
    assert (found == expected(picture())).all()


def test_colours_may_come_in_the_other_order(model):
    settings = ParserConfig(mean=RED.mean, std=RED.std, channels="bgr")
    found = open_parser(model, "", "lip", settings, 1).parse(picture())
    assert (found == expected(picture(), channel=2)).all()


def test_images_are_resized_to_the_models_size(model):
    found = open_parser(model, "", "lip", RED, 1).parse(picture(48, 30))
    small = picture(48, 30).resize((6, 12), Image.Resampling.BILINEAR)
    assert (found == expected(small)).all()


def test_the_mean_is_subtracted(model):
    settings = ParserConfig(mean=(0.25, 0, 0), std=RED.std)
    found = open_parser(model, "", "lip", settings, 1).parse(picture())
    red = np.asarray(picture(), np.float64)[:, :, 0] / 255 * 20 - 5
    assert (found == np.clip(np.rint(red), 0, None)).all()


def test_a_size_that_is_not_fixed_must_be_given(tmp_path):
    path = write_model(tmp_path / "free.onnx", size=("height", "width"))
    with pytest.raises(ConfigError, match=r"any height; say which with --parser\.height"):
        open_parser(path, "", "lip", RED, 1)
    settings = ParserConfig(mean=RED.mean, std=RED.std, height=24, width=10)
    assert open_parser(path, "", "lip", settings, 1).parse(picture()).shape == (24, 10)


@pytest.mark.parametrize(
    ("change", "settings", "label_set", "message"),
    [
        ({}, {"height": 24}, "lip", "parser.height=24, but the model takes 12 only"),
        ({}, {"output": "masks"}, "lip", "no such output, but logits, numbers"),
        ({"channels": 4}, {}, "lip", r"takes image \[1, 4, 12, 6\]; a human-parsing model"),
    ],
)
def test_models_that_do_not_fit(tmp_path, change, settings, label_set, message):
    path = write_model(tmp_path / "parser.onnx", **change)
    with pytest.raises(ConfigError, match=message):
        open_parser(path, "", label_set, ParserConfig(**settings), 1)


@pytest.mark.parametrize("label_set", ["atr", "pascal"])
def test_outputs_of_other_labels(model, label_set):
    parser = open_parser(model, "", label_set, RED, 1)
    with pytest.raises(
        ConfigError, match=r"float32 of shape \(1, 20, 12, 6\); expected are logits"
    ):
        parser.parse(picture())


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "parser.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"cannot open the model .*parser\.onnx"):
        open_parser(path, "", "lip", RED, 1)


def test_without_onnxruntime_the_extra_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-deskpro\[masks\]'"):
        open_parser(model, "", "lip", RED, 7)


@pytest.mark.parametrize(
    ("settings", "message"), [({"height": -1}, "parser.height=-1"), ({"std": (0, 1, 1)}, "above 0")]
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        ParserConfig(**settings)


def test_a_whole_run_with_a_model(make, model, names):
    settings = ParserConfig(mean=RED.mean, std=RED.std)
    made = make(parsing=model, parser=settings, keep=(2,))
    assert set(made.done) == {"parsing", "mask", "lr_face"}
    for name in names:
        with Image.open((made.folder / "parsing" / name).with_suffix(".png")) as labels:
            assert labels.size == (6, 12)
    parameters = made.folder / "records" / "parsing.jsonl"
    assert '"model": "parser.onnx"' in parameters.read_text().splitlines()[0]
    assert '"threads"' not in parameters.read_text()
    again = make(parsing=model, parser=settings, keep=(13,))
    assert again.done == {"parsing": 0, "mask": len(names), "lr_face": 0}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        # Logits of a quantised model, all of which could be label numbers.
        (np.stack([np.full((2, 3), k == 7, np.int8) for k in range(LABELS)])[None], 7),
        (np.full((1, 1, 2, 3), 5, np.int64), 5),
    ],
)
def test_whole_numbers_may_be_logits_or_labels(model, output, expected, monkeypatch):
    parser = open_parser(model, "", "lip", ParserConfig(), 1)
    session = type(
        "Session",
        (),
        {
            "run": lambda *_: [output],
            "get_inputs": lambda _: [SimpleNamespace(name="image", shape=[1, 3, 2, 3])],
        },
    )
    monkeypatch.setattr("reid_deskpro.prepare.parser._open_session", lambda *_: session())
    labels = parser.parse(Image.new("RGB", (3, 2)))
    assert labels.shape == (2, 3)
    assert (labels == expected).all()
