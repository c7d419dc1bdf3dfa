"""Where faces are looked for, and how they are cut out."""

import json

import numpy as np
import pytest

from reid_core.errors import DatasetError
from reid_deskpro.prepare.face_boxes import (
    Box,
    choose_face,
    count_strangers,
    crop_square,
    find_face,
    read_detections,
    square,
)


class TestDetections:
    def test_landmarks_are_left_out(self, tmp_path):
        path = tmp_path / "faces.json"
        nested = [1, 2, 11, 22, 0.5, [[3, 4], [5, 6]]]
        flat = [1.5, 2, 11, 22, 1, 3, 4, 5, 6]
        path.write_text(json.dumps({"a/b.jpg": [nested, flat], "a/c.jpg": []}))
        assert read_detections(path) == {
            "a/b.jpg": [[1, 2, 11, 22, 0.5], [1.5, 2, 11, 22, 1]],
            "a/c.jpg": [],
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[]", "one JSON object"),
            ("{", "no valid JSON"),
            ('{"a.jpg": 3}', "'a.jpg' is no list"),
            ('{"a.jpg": [[1, 2, 3, 4]]}', "must be .x1, y1, x2, y2, score."),
            ('{"a.jpg": [[1, 2, 3, "4", 1]]}', "must be"),
            ('{"a.jpg": [[1, 2, 3, NaN, 1]]}', "must be"),
            ('{"a.jpg": [[10, 2, 5, 4, 1]]}', "no area; corners are left, top, right, bottom"),
        ],
    )
    def test_what_is_refused(self, tmp_path, text, message):
        path = tmp_path / "faces.json"
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_detections(path)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(DatasetError, match=r"cannot read the detections .*no\.json"):
            read_detections(tmp_path / "no.json")

    def test_entries_of_other_images(self, tmp_path):
        images = ["a/1.jpg", "a/2.jpg"]
        assert count_strangers({"a/1.jpg": [], "b.jpg": []}, images, tmp_path) == 1
        with pytest.raises(DatasetError, match=r"like 'x/1\.jpg', images are like 'a/1"):
            count_strangers({"x/1.jpg": []}, images, tmp_path)
        with pytest.raises(DatasetError, match="no entries"):
            count_strangers({}, images, tmp_path)


class TestChoosing:
    def test_score_times_area_decides(self):
        small, large = [10, 10, 20, 20, 0.9], [30, 10, 50, 30, 0.3]
        assert choose_face([small, large], 100, 60, 1).box == Box(30, 10, 50, 30)
        assert choose_face([small, [*large[:4], 0.2]], 100, 60, 1).box == Box(10, 10, 20, 20)

    @pytest.mark.parametrize(
        "face",
        [
            [10, 45, 20, 56, 1],
            [-20, 10, -1, 20, 1],
            [60, 10, 70, 20, 1],
            [10, -9, 20, -1, 1],
            [-1e6, -1e6, 1e6 + 40, 1e6 + 20, 1],
        ],
        ids=["lower half", "left of it", "right of it", "above it", "of another scale"],
    )
    def test_other_people_do_not_count(self, face):
        assert choose_face([face], 100, 60, 1).reason == "no face in the upper half"
        kept = [25, 5, 30, 10, 0.1]
        assert choose_face([face, kept], 100, 60, 1).box == Box(*kept[:4])

    def test_boxes_may_reach_over_the_border(self):
        assert choose_face([[-4, -4, 10, 10, 1]], 100, 60, 1).box == Box(-4, -4, 10, 10)

    def test_why_there_is_none(self):
        assert choose_face([], 100, 60, 1) == (None, "no face was detected")
        assert choose_face([[1, 1, 9, 5, 1]], 100, 60, 5) == (None, "the face is too small")
        assert choose_face([[1, 1, 9, 6, 1]], 100, 60, 5).box == Box(1, 1, 9, 6)


def head(**parts):
    """Return a label map of 60 x 30 with labels in boxes (rows, columns)."""
    labels = np.zeros((60, 30), np.uint8)
    numbers = {"hat": 1, "hair": 2, "glasses": 4, "face": 13, "stray": 13}
    for name, (rows, columns) in parts.items():
        labels[slice(*rows), slice(*columns)] = numbers[name]
    return labels


class TestHeads:
    def test_sunglasses_belong_to_the_face(self):
        labels = head(hair=((2, 6), (10, 20)), face=((6, 16), (10, 20)), glasses=((9, 11), (8, 20)))
        assert find_face(labels, "lip", 4, 0.25).box == Box(8, 6, 20, 16)

    def test_the_largest_piece_in_the_upper_half_is_taken(self):
        labels = head(face=((6, 16), (10, 20)), stray=((30, 50), (5, 25)))
        assert find_face(labels, "lip", 4, 0.1).box == Box(10, 6, 20, 16)
        labels = head(face=((6, 16), (10, 20)), stray=((1, 5), (24, 28)))
        assert find_face(labels, "lip", 4, 0.1).box == Box(10, 6, 20, 16)

    def test_pieces_hang_together_over_corners(self):
        labels = head(face=((6, 12), (10, 16)), stray=((12, 18), (16, 22)))
        assert find_face(labels, "lip", 4, 0.1).box == Box(10, 6, 22, 18)

    @pytest.mark.parametrize(
        ("parts", "reason"),
        [
            ({}, "no head in the label map"),
            ({"hair": ((2, 16), (10, 20))}, "the head is turned away"),
            (
                {"hair": ((2, 16), (10, 20)), "face": ((10, 14), (10, 14))},
                "the head is turned away",
            ),
            ({"face": ((6, 9), (10, 20))}, "the face is too small"),
            ({"face": ((30, 45), (10, 20))}, "no face in the upper half"),
        ],
    )
    def test_why_there_is_none(self, parts, reason):
        assert find_face(head(**parts), "lip", 4, 0.25) == (None, reason)

    def test_a_head_will_do_where_faces_have_no_label(self):
        labels = np.zeros((60, 30), np.uint8)
        labels[2:16, 8:20] = 1
        assert find_face(labels, "pascal", 4, 0.25).box == Box(8, 2, 20, 16)


class TestCrops:
    @pytest.mark.parametrize(
        ("box", "margin", "expected"),
        [
            (Box(10, 10, 20, 20), 1.0, (10, 10, 10)),
            (Box(10, 10, 20, 20), 1.3, (9, 9, 13)),
            (Box(10, 10, 20, 30), 1.0, (5, 10, 20)),
            (Box(0, 0, 10, 6), 2.0, (-5, -7, 20)),
            (Box(3.2, 3.2, 3.4, 3.4), 1.0, (3, 3, 1)),
        ],
    )
    def test_squares(self, box, margin, expected):
        assert square(box, margin) == expected

    def test_a_square_has_the_centre_of_its_box(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            left, top, wide, high = rng.uniform(1, 40, 4)
            box = Box(left, top, left + wide, top + high)
            at_left, at_top, side = square(box, 1.3)
            assert abs(side - 1.3 * max(wide, high)) <= 0.5
            assert abs(at_left + side / 2 - (left + wide / 2)) <= 0.5
            assert abs(at_top + side / 2 - (top + high / 2)) <= 0.5

    @pytest.mark.parametrize("corner", [(3, 4), (-5, -6), (14, 20), (-50, 3)])
    def test_beyond_the_border_the_last_pixels_are_repeated(self, corner):
        pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
        left, top = corner
        crop = crop_square(pixels, left, top, 9)
        assert crop.shape == (9, 9, 3)
        for row in range(9):
            for column in range(9):
                y, x = min(max(top + row, 0), 23), min(max(left + column, 0), 15)
                assert (crop[row, column] == pixels[y, x]).all()
