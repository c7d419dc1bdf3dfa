"""mask_resize.npz: what the attention is taught, from masks of three sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.testing.golden import fill_uniform
from reid_deskpro.losses import attention_target

# Height and width of the masks, from the golden README, with its tolerances.
SIZES = {"full": (384, 128), "small": (256, 128), "odd": (100, 60)}
TOLERANCES = {"full": 6e-8, "small": 6e-8, "odd": 5e-6}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("mask_resize.npz")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", SIZES)
def test_target(golden, arrays, name, dtype):
    resized, floored = arrays[f"{name}_resized"], arrays[f"{name}_floored"]
    height, width = SIZES[name]
    masks = fill_uniform(golden.input_name(f"maskresize.{name}"), (len(resized), 3, height, width))
    masks[:, :, : height // 4] = 0

    def target(floor):
        found = attention_target(torch.from_numpy(masks).to(dtype), resized.shape[2:], floor=floor)
        assert found.dtype == dtype
        # At the precision of the golden arrays, whose last digit the tolerance is.
        return found.float().numpy()

    found = target("exact")
    np.testing.assert_allclose(found, floored, rtol=0, atol=TOLERANCES[name])
    # 0.1 where the golden mask is exactly 0 and nowhere else; there the mask itself.
    is_zero = resized == 0
    assert is_zero.any()
    assert not is_zero.all()
    assert (found[is_zero] == np.float32(0.1)).all()
    np.testing.assert_allclose(found[~is_zero], resized[~is_zero], rtol=0, atol=TOLERANCES[name])
    clamped = np.maximum(resized, np.float32(0.1))
    np.testing.assert_allclose(target("clamp"), clamped, rtol=0, atol=TOLERANCES[name])


def test_no_array_is_left_out(arrays):
    assert set(arrays) == {f"{name}_{what}" for name in SIZES for what in ("resized", "floored")}
