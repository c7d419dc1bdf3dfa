"""Golden numbers: where they lie, how their weights and inputs are filled, how arrays compare."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import pytest
import torch
from torch import Tensor, nn

__all__ = [
    "GoldenSet",
    "assert_parity",
    "fill",
    "fill_images",
    "fill_module",
    "fill_state_dict",
    "fill_uniform",
    "fill_weight",
    "needs_golden_order",
    "needs_pillow_of_golden",
]

needs_pillow_of_golden = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13,
    reason="the golden numbers were made with Pillow 13; earlier ones reduce tall images otherwise",
)
"""Mark of tests that compare strongly reduced images: there the versions of Pillow differ by more
than any tolerance, in the official code as in ours."""

# Of convolutions and of a product in float32 where the golden numbers were made.
_GOLDEN_SUMS = (997091326, 1270515882, 2533063192, 876960194)


@dataclass(frozen=True)
class GoldenSet:
    """One set of golden files: ``root/method/*`` and ``root/method/name/*``."""

    root: Path
    method: str
    name: str

    def input_name(self, suffix: str) -> str:
        """Return the name of an input tensor of this set, e.g. ``public.images_full``."""
        return f"{self.name}.{suffix}"

    def shared_json(self, file: str) -> Any:
        """Read a JSON file that all sets of the method share; skip the test if it is absent."""
        return json.loads(self.shared_path(file).read_text())

    def shared_path(self, file: str) -> Path:
        """Return a file that all sets of the method share; skip the test if it is absent."""
        return self._existing(self.root / self.method / file)

    def json(self, file: str) -> Any:
        """Read a JSON file of this set; skip the test by name if the set does not hold it."""
        return json.loads(self._existing(self.path(file)).read_text())

    def arrays(self, file: str) -> dict[str, npt.NDArray[Any]]:
        """Read an .npz file of this set; skip the test by name if the set does not hold it."""
        with np.load(self._existing(self.path(file)), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def names(self, pattern: str) -> list[str]:
        """Return the files of this set with such a name; skip the test if there are none.

        Args:
            pattern: With ``*``, where sets hold files of different names.
        """
        folder = self.path(pattern).parent
        found = sorted(path.name for path in folder.glob(pattern))
        # Fails where there is no such folder, skips where it holds no such file.
        self._existing(folder / (found[0] if found else pattern))
        return found

    def path(self, file: str) -> Path:
        """Return the path of a file of this set."""
        return self.root / self.method / self.name / file

    def _existing(self, path: Path) -> Path:
        if not path.parent.is_dir():
            pytest.fail(f"golden folder {path.parent} does not exist")
        if not path.is_file():
            pytest.skip(f"golden set {self.name!r} of {self.method} holds no {path.name}")
        return path


def _random_state(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode("utf-8")) & 0xFFFFFFFF)


def fill(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the golden input called ``name``: standard normal values, float32, C order."""
    return _random_state(name).normal(0, 1, tuple(shape)).astype(np.float32)


def fill_uniform(
    name: str, shape: Sequence[int], low: float = 0, high: float = 1
) -> npt.NDArray[np.float32]:
    """Return golden values called ``name`` that are uniform in [low, high): float32, C order."""
    return _random_state(name).uniform(low, high, tuple(shape)).astype(np.float32)


def fill_images(
    name: str,
    count: int,
    height: int,
    width: int,
    *,
    block: int = 32,
    noise: float = 0.5,
    parts: tuple[str, str] = ("coarse", "fine"),
) -> npt.NDArray[np.float32]:
    """Return golden images (count, 3, height, width): blocks of equal pixels plus fine noise.

    Args:
        name: Name of the images.
        count: How many.
        height: In pixels, a multiple of ``block``.
        width: In pixels, a multiple of ``block``.
        block: Side of the blocks in pixels.
        noise: Factor of the noise.
        parts: Ends of the names of the blocks' values and of the noise.
    """
    coarse = fill(f"{name}.{parts[0]}", (count, 3, height // block, width // block))
    fine = fill(f"{name}.{parts[1]}", (count, 3, height, width))
    blocks = np.repeat(np.repeat(coarse, block, axis=2), block, axis=3)
    return (blocks + np.float32(noise) * fine).astype(np.float32)


def fill_weight(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the golden weight called ``name`` (component, a dot, the official key)."""
    rng, shape = _random_state(name), tuple(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.float32)
    if name.endswith(".running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif name.endswith((".running_mean", ".bias")):
        value = rng.normal(0, 0.1, shape)
    elif len(shape) == 1 and name.endswith(".weight"):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))
    return np.asarray(value, dtype=np.float32)


def fill_state_dict(component: str, shapes: Mapping[str, Iterable[int]]) -> dict[str, Tensor]:
    """Return golden weights for every official key of ``component``; "" names the keys alone."""
    state = {}
    for key, shape in shapes.items():
        name = f"{component}.{key}" if component else key
        value = torch.from_numpy(fill_weight(name, tuple(shape)))
        state[key] = value.long() if key.endswith("num_batches_tracked") else value
    return state


def fill_module(module: nn.Module, component: str) -> None:
    """Load golden weights into a module whose keys are the official ones.

    The values are float32 and are cast to the module's dtype afterwards, as the goldens ask.

    Args:
        module: Changed in place.
        component: Start of the golden names, as in ``fill_state_dict``.
    """
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    module.load_state_dict(fill_state_dict(component, shapes))


def assert_parity(
    actual: Tensor | npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    tolerance: float,
    what: str,
) -> None:
    """Assert max|actual - expected| <= tolerance * max|expected|.

    Raises:
        AssertionError: With the name, both maxima and the ratio.
    """
    if isinstance(actual, Tensor):
        actual = actual.detach().cpu().numpy()
    found = np.asarray(actual, dtype=np.float64)
    wanted = np.asarray(expected, dtype=np.float64)
    assert found.shape == wanted.shape, f"{what}: shape {found.shape}, golden {wanted.shape}"
    assert wanted.size, f"{what}: the golden array is empty"
    scale = float(np.abs(wanted).max())
    error = float(np.abs(found - wanted).max())
    assert error <= tolerance * scale, (
        f"{what}: max difference {error:.3e} at scale {scale:.3e}, "
        f"ratio {error / scale if scale else float('inf'):.3e} > {tolerance:.1e}"
    )


def needs_golden_order() -> None:
    """Skip the test where float32 sums are not added as they were for the golden numbers.

    Each kind of processor has an order of its own, and so may each library of products. For tests
    whose tolerance is below what the order makes; those in float64 hold everywhere.
    """
    if _float32_sums() != _GOLDEN_SUMS:
        pytest.skip("this processor adds float32 numbers in another order than the golden numbers'")


@cache
def _float32_sums() -> tuple[int, ...]:
    """Return checksums of results that depend on the order of their sums."""
    random = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = []
        for inside, outside, size, height in ((64, 64, 3, 64), (256, 64, 1, 64), (512, 512, 3, 16)):
            maps = torch.randn(4, inside, height, height // 2, generator=random)
            kernel = torch.randn(outside, inside, size, size, generator=random)
            found.append(nn.functional.conv2d(maps, kernel, padding=size // 2))
        found.append(
            torch.randn(64, 2048, generator=random) @ torch.randn(2048, 64, generator=random)
        )
    finally:
        torch.set_num_threads(threads)
    return tuple(zlib.crc32(result.contiguous().numpy().tobytes()) for result in found)
