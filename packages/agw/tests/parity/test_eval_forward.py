"""eval_forward.npz and its statistics: the test-time network, images through either stem."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional as F

from reid_agw.model import AGW

HEIGHT, WIDTH = 288, 144  # golden README
TOLERANCE = {torch.float64: 1e-7, torch.float32: 5e-7}  # golden README; absolute
STATISTICS = 1e-9  # of scalars in JSON files; relative
MODALS = {1: False, 2: True}  # official number of a stem -> infrared

# Official names of blocks that differ from ours.
BLOCKS = {"stem_v": "stem_visible", "stem_t": "stem_infrared", "NL_": "non_local", "base.": ""}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("eval_forward.npz")


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def images(golden_input, arrays, dtype):
    count = max(len(value) for value in arrays.values())
    return golden_input("images", (count, 3, HEIGHT, WIDTH)).to(dtype)


@pytest.fixture(scope="module")
def networks(golden_network, methods, dtype):
    """The test-time networks of both official methods, with golden weights."""
    found = {}
    for method in methods:
        trained = golden_network(method, "wild")
        found[method] = AGW(None, **methods[method]).eval()
        found[method].load_state_dict(trained.inference_state())
        found[method].to(dtype)
    return found


@pytest.fixture(scope="module")
def passes(networks, images):
    """Both features of all images by official number of the stem, and the maps on the way."""
    network = networks["agw"]
    maps = {}

    def keep(name):
        return lambda module, inputs, output: maps.setdefault(name, []).append(statistics(output))

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in network.named_modules()
        if name.startswith(("stem_", "layer", "non_local")) and name.count(".") <= 1
    ]
    found = {modal: embed(network, images, infrared) for modal, infrared in MODALS.items()}
    for hook in hooks:
        hook.remove()
    return found, maps


def embed(network, images, infrared):
    with torch.inference_mode():
        both = network.embed_each(images, torch.full((len(images),), infrared))
    return F.normalize(both, dim=2)


def statistics(values):
    values = values.double()
    return [f.item() for f in (values.mean(), values.std(), values.norm(), values.abs().max())]


def check(both, arrays, name, dtype):
    for feature, index in (("fc", 0), ("pool", 1)):
        expected = torch.from_numpy(arrays[f"{name}_{feature}"]).double()
        found = both[: len(expected), index].double()
        assert found.shape == expected.shape
        error = (found - expected).abs().max().item()
        assert error <= TOLERANCE[dtype], f"{name}_{feature}: {error:.3e}"


@pytest.mark.parametrize("modal", MODALS)
def test_agw(passes, arrays, dtype, modal):
    check(passes[0][modal], arrays, f"agw_modal{modal}", dtype)


@pytest.mark.parametrize("modal", MODALS)
def test_base(networks, images, arrays, dtype, modal):
    count = len(arrays[f"base_modal{modal}_fc"])
    both = embed(networks["base"], images[:count], MODALS[modal])
    check(both, arrays, f"base_modal{modal}", dtype)


def test_a_mixed_batch(passes, networks, images, dtype):
    """An image's features do not depend on the modalities beside it."""
    infrared = torch.arange(len(images)) % 2 == 1
    with torch.inference_mode():
        found = F.normalize(networks["agw"].embed_each(images, infrared), dim=2)
    for row, flag in enumerate(infrared):
        expected = passes[0][2 if flag else 1][row]
        assert (expected - found[row]).abs().max() <= TOLERANCE[dtype]


# The golden statistics are of float64.
@pytest.mark.parametrize("dtype", [torch.float64], indirect=True)
def test_every_block(passes, golden):
    expected = golden.json("eval_forward_stats.json")["stats"]
    assert expected
    for official, rows in expected.items():
        name = official
        for start, own in BLOCKS.items():
            name = re.sub(f"^{re.escape(start)}", own, name)
        # A stem has one entry, of its own modality; ours saw the images twice, with equal results.
        for row, wanted in zip(passes[1][name], rows, strict=len(rows) == len(MODALS)):
            assert row == pytest.approx(wanted, rel=STATISTICS), official
