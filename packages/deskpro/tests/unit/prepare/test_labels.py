"""Label sets, label maps and the masks that are made of them."""

import numpy as np
import pytest
from PIL import Image

from reid_core.errors import ConfigError, ImageFileError
from reid_deskpro.prepare.label_maps import fit_labels, not_clothing_mask, read_label_map
from reid_deskpro.prepare.label_sets import LABEL_SETS, kept_labels


@pytest.mark.parametrize(
    ("name", "count", "kept"),
    [
        ("lip", 20, {"hair", "face", "left arm", "right arm", "left leg", "right leg"}),
        ("atr", 18, {"hair", "face", "left arm", "right arm", "left leg", "right leg"}),
        ("pascal", 7, {"head"}),
    ],
)
def test_what_is_not_clothing(name, count, kept):
    labels = LABEL_SETS[name]
    assert len(labels.names) == count
    assert {labels.names[label] for label in kept_labels(name, (), 0)} == kept
    assert {labels.names[label] for label in labels.face} <= {"face", "sunglasses"}


def test_other_labels_can_be_kept():
    assert kept_labels("lip", (19, 18, 2), 0) == (2, 18, 19)
    assert kept_labels("lip", (2,), 1) == (0, 2)
    assert kept_labels("pascal", (), 1) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pascal", (1, 9), 0), "keep=9: Pascal-Person-Part .* it has 0 background, 1 head"),
        (("lip", (-1,), 0), "keep=-1"),
        (("pascal", (1, 2, 3, 4, 5, 6), 1), "every label"),
    ],
)
def test_labels_that_cannot_be_kept(arguments, message):
    with pytest.raises(ConfigError, match=message):
        kept_labels(*arguments)


def test_a_mask_agrees_with_a_loop():
    labels = np.random.default_rng(0).integers(0, 20, (13, 7), np.uint8)
    mask = not_clothing_mask(labels, (2, 13))
    assert mask.dtype == np.uint8
    for row in range(13):
        for column in range(7):
            assert mask[row, column] == (255 if labels[row, column] in (2, 13) else 0)


def test_labels_are_resized_to_the_nearest():
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    assert fit_labels(labels, 4, 6).tolist() == [
        *[[1, 1, 1, 2, 2, 2]] * 2,
        *[[3, 3, 3, 4, 4, 4]] * 2,
    ]
    assert fit_labels(labels, 2, 2) is labels
    big = np.random.default_rng(1).integers(0, 20, (90, 50), np.uint8)
    assert set(np.unique(fit_labels(big, 20, 10))) <= set(np.unique(big))


MAP = np.array([[0, 2, 13], [5, 19, 255]], np.uint8)
READ = [[0, 2, 13], [5, 19, 0]]


class TestReading:
    def test_of_grey_levels(self, tmp_path):
        Image.fromarray(MAP).save(tmp_path / "a.png")
        assert read_label_map(tmp_path / "a.png", "lip").tolist() == READ

    def test_of_palette_indices(self, tmp_path):
        image = Image.fromarray(MAP)
        image.putpalette([value for label in range(256) for value in (label, 255 - label, 7)])
        image.save(tmp_path / "a.png")
        assert Image.open(tmp_path / "a.png").mode == "P"
        assert read_label_map(tmp_path / "a.png", "lip").tolist() == READ

    @pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2, 3, 1)])
    @pytest.mark.parametrize("kind", [np.uint8, np.int64])
    def test_of_arrays(self, tmp_path, shape, kind):
        np.save(tmp_path / "a.npy", MAP.astype(kind).reshape(shape))
        assert read_label_map(tmp_path / "a.npy", "lip").tolist() == READ

    def test_of_two_labels(self, tmp_path):
        Image.fromarray(MAP > 4).save(tmp_path / "a.png")
        assert read_label_map(tmp_path / "a.png", "pascal").tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), 20, np.uint8), "holds 20, but LIP .* labels 0 to 19"),
        (np.array([[-1, 0]]), "holds -1"),
        (np.zeros((2, 2), np.float32), "float32 of shape"),
        (np.zeros((4, 2, 2), np.uint8), r"shape \(4, 2, 2\)"),
        (np.zeros((0, 2), np.uint8), "empty"),
        (np.array([["a"]], object), "cannot read the label map"),
    ],
)
def test_arrays_that_are_no_label_maps(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(ImageFileError, match=message):
        read_label_map(tmp_path / "a.npy", "lip")


def test_pictures_that_are_no_label_maps(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match="picture in colours"):
        read_label_map(tmp_path / "a.png", "lip")
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(ImageFileError, match=r"cannot read the label map .*b\.png"):
        read_label_map(tmp_path / "b.png", "lip")
