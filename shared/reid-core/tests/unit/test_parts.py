"""Part features: scaled part by part, missing parts stay zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.errors import ProtocolError
from reid_core.evaluation import l2_normalize, l2_normalize_parts


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_equals_a_loop(dtype, expected):
    features = torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = l2_normalize_parts(features)
    assert (found.shape, found.dtype) == ((5, 24), expected)
    for image in range(5):
        for part in range(3):
            vector = features[image, :, part].double().numpy()
            np.testing.assert_allclose(
                found[image, part * 8 : (part + 1) * 8].double(),
                vector / np.linalg.norm(vector),
                rtol=0,
                atol=1e-15 if expected == torch.float64 else 1e-7,
            )


def test_inner_products_are_sums_of_cosines():
    query, gallery = torch.randn(2, 4, 6, 3, generator=torch.Generator().manual_seed(1))
    found = l2_normalize_parts(query) @ l2_normalize_parts(gallery).T
    cosines = [
        l2_normalize(query[:, :, part]) @ l2_normalize(gallery[:, :, part]).T for part in range(3)
    ]
    np.testing.assert_allclose(found, sum(cosines), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_missing_parts_stay_zero(dtype):
    features = torch.ones(2, 4, 3, dtype=dtype)
    features[1, :, 0] = 0
    found = l2_normalize_parts(features)
    assert found[1, :4].tolist() == [0] * 4
    assert torch.linalg.vector_norm(found, dim=1).tolist() == pytest.approx([3**0.5, 2**0.5])


def test_one_part_is_a_plain_feature():
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    assert l2_normalize_parts(features[:, :, None]).equal(l2_normalize(features))


def test_another_shape():
    with pytest.raises(ProtocolError, match=r"shape \(2, 3\); \(images, D, parts\) is expected"):
        l2_normalize_parts(torch.ones(2, 3))
