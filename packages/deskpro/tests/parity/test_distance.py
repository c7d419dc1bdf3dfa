"""distance.npz: the distance of features in fourteen parts, of all parts and of each stream."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid_core.models import FlipEmbedding
from reid_core.testing.golden import fill
from reid_deskpro.model import DeskPro

TOLERANCE = 1e-12  # golden README
DIM = 512


class GivenFeatures(nn.Module):
    """A network whose images are features already, (B, 512, P) as the goldens have them."""

    def __init__(self, part_groups: Mapping[str, int]) -> None:
        super().__init__()
        self.part_groups = part_groups

    def embed(self, features: Tensor) -> Tensor:
        return features.transpose(1, 2).flatten(1)


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("distance.npz")


@pytest.fixture(scope="module")
def part_groups():
    with torch.device("meta"):
        return DeskPro(None).part_groups


@pytest.fixture(scope="module")
def features(golden, arrays, part_groups):
    """Query and gallery features in float64."""

    def draw(name, count):
        values = fill(golden.input_name(f"dist.{name}"), (count, DIM, sum(part_groups.values())))
        return torch.from_numpy(values).double()

    num_queries, num_gallery = arrays["dist_all"].shape
    return draw("q", num_queries), draw("g", num_gallery)


def unit(features, part_groups):
    return FlipEmbedding(GivenFeatures(part_groups), "none")(features)


def distances(queries, gallery, part_groups):
    return (1 - unit(queries, part_groups) @ unit(gallery, part_groups).T).numpy()


def close(found, expected):
    assert expected.size
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_all_parts(features, arrays, part_groups):
    queries, gallery = features
    close(distances(queries, gallery, part_groups), arrays["dist_all"])
    close(unit(queries, part_groups).square().sum(dim=1), arrays["q_norm2"])


@pytest.mark.parametrize("name", ["face", "body"])
def test_one_stream(features, arrays, part_groups, name):
    start = 0 if name == "face" else part_groups["face"]
    chosen = slice(start, start + part_groups[name])
    queries, gallery = (values[:, :, chosen] for values in features)
    close(distances(queries, gallery, {name: part_groups[name]}), arrays[f"dist_{name}"])


def test_a_gallery_image_without_a_face(features, arrays, part_groups):
    queries, gallery = features[0], features[1].clone()
    missing = 2  # of the name of the array
    gallery[missing, :, : part_groups["face"]] = 0
    found = distances(queries, gallery, part_groups)
    close(found, arrays["dist_all_safe_missing_face_g2"])
    # The official code divides 0 by 0, and such an image comes last for everybody.
    official = arrays["dist_all_official_missing_face_g2"]
    assert np.isnan(official[:, missing]).all()
    others = np.arange(len(gallery)) != missing
    close(found[:, others], official[:, others])
    close(found[:, missing], arrays["dist_body"][:, missing])


def test_no_array_is_left_out(arrays):
    missing = {f"dist_all_{kind}_missing_face_g2" for kind in ("official", "safe")}
    assert set(arrays) == {"dist_all", "dist_face", "dist_body", "q_norm2"} | missing
