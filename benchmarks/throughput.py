"""Images per second of the input pipeline against a plain Pillow + torchvision DataLoader.

Every contestant does AIM's training augmentation (resize, enlarge by 1.125 and crop, flip,
normalise, erase) on the same synthetic JPEG files. One round runs one after the other, so a busy
machine slows all of them; ratios are formed within a round, against the faster of the two
DataLoader rows of that round, and the medians over the rounds are printed.

    python benchmarks/throughput.py [--size 384x192] [--rounds 5] [--json result.json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from reid_core.data.augment import AugmentConfig, BatchAugment
from reid_core.data.cache import ImageCache
from reid_core.data.loader import TrainLoader
from reid_core.data.prefetch import prefetch
from reid_core.data.sample import Sample
from reid_core.data.samplers import IdentityChunkSampler

CONFIG = AugmentConfig()
NUM_INSTANCES = 8
# Fast contestants repeat the epoch until this much time has passed, so that clocks do not matter.
MIN_SECONDS = 0.5

PLAIN = "Pillow + torchvision transforms, DataLoader"
CONTESTANTS = {
    "plain-0": f"{PLAIN}, 0 workers: decodes every JPEG in every epoch, float batches",
    "plain-2": f"{PLAIN}, 2 workers: the same",
    "float": "reid-core, all steps: float batches, crops cut from cached enlarged images",
    "float-lean": "reid-core, all steps: float batches, crops enlarged by Pillow when drawn",
    "uint8": "reid-core, crop + flip only: uint8 batches, normalise + erase left to the device",
}


class Case(NamedTuple):
    """Source size and target size, width x height for files, height x width for batches."""

    source: tuple[int, int]
    height: int
    width: int

    @property
    def title(self) -> str:
        """What the table calls it."""
        return f"{self.source[0]}x{self.source[1]} JPEG -> {self.height}x{self.width}"


CASES = (Case((64, 128), 256, 128), Case((200, 400), 256, 128), Case((200, 400), 384, 192))


@dataclass(frozen=True)
class Row:
    """Result of one contestant in one case: medians over the rounds."""

    case: str
    contestant: str
    does: str
    images_per_second: float
    ratio: float
    ratios: list[float]


class PlainCrop:
    """Enlarge and crop a Pillow image."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def __call__(self, image: Image.Image) -> Image.Image:
        """Vary one image."""
        if random.uniform(0, 1) >= CONFIG.crop_prob:
            return image
        height, width = round(self.height * 1.125), round(self.width * 1.125)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left = round(random.uniform(0, width - self.width))
        top = round(random.uniform(0, height - self.height))
        return image.crop((left, top, left + self.width, top + self.height))


class PlainErase:
    """Erase a rectangle of a normalised tensor."""

    def __call__(self, image: Tensor) -> Tensor:
        """Vary one image."""
        if random.uniform(0, 1) >= CONFIG.erase_prob:
            return image
        height, width = image.shape[1:]
        for _ in range(100):
            area = random.uniform(*CONFIG.erase_area) * height * width
            ratio = random.uniform(CONFIG.erase_min_ratio, 1 / CONFIG.erase_min_ratio)
            box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if box_height < height and box_width < width:
                top = random.randint(0, height - box_height)
                left = random.randint(0, width - box_width)
                for channel, fill in enumerate(CONFIG.erase_fill):
                    image[channel, top : top + box_height, left : left + box_width] = fill
                return image
        return image


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """Decode, transform, return."""

    def __init__(self, paths: Sequence[Path], case: Case) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((case.height, case.width)),
                PlainCrop(case.height, case.width),
                transforms.RandomHorizontalFlip(CONFIG.flip_prob),
                transforms.ToTensor(),
                transforms.Normalize(CONFIG.mean, CONFIG.std),
                PlainErase(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        return self.transform(image), index


def write_jpegs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write JPEG files, quality 90, of blurred colour patches with some noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    width, height = size
    paths = []
    for number in range(count):
        patches = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        smooth = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 6, (height, width, 3))
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def epochs_of(
    case: Case, paths: Sequence[Path], batch_size: int, resources: ExitStack
) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """Return for each contestant a function that starts an epoch of image batches."""

    def plain(num_workers: int) -> Callable[[], Iterator[Tensor]]:
        loader = DataLoader(
            PlainDataset(paths, case),
            batch_size,
            shuffle=True,
            num_workers=num_workers,
            drop_last=True,
            persistent_workers=num_workers > 0,
        )
        return lambda: (images for images, _ in loader)

    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="reid-cache-")))
    build = partial(ImageCache.build, paths, height=case.height, width=case.width, folder=folder)
    full = build(crop_scale=CONFIG.crop_scale)
    lean = build()
    augment = BatchAugment(CONFIG, case.height, case.width)
    pids = [number // NUM_INSTANCES for number in range(len(paths))]
    samples = [Sample(path, pid, 0) for path, pid in zip(paths, pids, strict=True)]
    sampler = IdentityChunkSampler(pids, NUM_INSTANCES, seed=1)

    def finished(cache: ImageCache) -> Callable[[], Iterator[Tensor]]:
        loader = TrainLoader(
            cache,
            samples,
            sampler,
            augment,
            batch_size=batch_size,
            device=torch.device("cpu"),
            seed=1,
        )
        return lambda: (batch.images for batch in loader.batches())

    def cut(indices: np.ndarray) -> Tensor:
        params = augment.draw(np.random.default_rng(indices), len(indices))
        assert full.enlarged is not None
        enlarged = [full.enlarged[i] for i in indices]
        pixels = [full.images[i] for i in indices]
        return torch.from_numpy(augment.apply_uint8(pixels, params, enlarged=enlarged))

    def unfinished() -> Iterator[Tensor]:
        order = sampler.epoch(0)
        order = order[: len(order) // batch_size * batch_size]
        with closing(prefetch(cut, order.reshape(-1, batch_size), num_threads=2)) as batches:
            yield from batches

    return {
        "plain-0": plain(0),
        "plain-2": plain(2),
        "float": finished(full),
        "float-lean": finished(lean),
        "uint8": unfinished,
    }


def images_per_second(start_epoch: Callable[[], Iterable[Tensor]]) -> float:
    """Run epochs until enough time has passed."""
    count, begin = 0, time.perf_counter()
    while True:
        for images in start_epoch():
            count += len(images)
        elapsed = time.perf_counter() - begin
        if elapsed >= MIN_SECONDS:
            return count / elapsed


def measure(case: Case, num_images: int, batch_size: int, rounds: int) -> list[Row]:
    """Measure all contestants in one case, interleaved."""
    with ExitStack() as resources:
        temporary = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="reid-jpeg-")))
        paths = write_jpegs(temporary / "images", num_images, case.source)
        contestants = epochs_of(case, paths, batch_size, resources)
        for start_epoch in contestants.values():
            for _ in start_epoch():  # the first epoch starts workers and maps the cache
                pass
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, start_epoch in contestants.items():
                speeds[name].append(images_per_second(start_epoch))
        contestants.clear()
    best = [max(pair) for pair in zip(speeds["plain-0"], speeds["plain-2"], strict=True)]
    rows = []
    for name, values in speeds.items():
        ratios = [value / plain for value, plain in zip(values, best, strict=True)]
        speed, ratio = statistics.median(values), statistics.median(ratios)
        rows.append(Row(case.title, name, CONTESTANTS[name], speed, ratio, ratios))
    return rows


def print_table(rows: Sequence[Row]) -> None:
    """Print one line per row and what each contestant does."""
    case = ""
    for row in rows:
        if row.case != case:
            case = row.case
            print(f"\n{case}\n  {'':<11} images/s   x best plain (lowest .. highest round)")
        spread = f"({min(row.ratios):.1f} .. {max(row.ratios):.1f})"
        print(f"  {row.contestant:<11} {row.images_per_second:>8,.0f}   {row.ratio:>6.1f} {spread}")
    print()
    for name, does in CONTESTANTS.items():
        print(f"{name:<11} {does}")


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = sorted({f"{case.height}x{case.width}" for case in CASES})
    parser.add_argument("--size", choices=sizes, help="only this target size (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--images", type=int, default=1024, help="JPEG files (default: 1024)")
    parser.add_argument("--batch-size", type=int, default=32, help="images (default: 32, as AIM)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    chosen = [case for case in CASES if options.size in (None, f"{case.height}x{case.width}")]
    print(
        f"torch {torch.__version__}, Pillow {PIL.__version__}, NumPy {np.__version__}, "
        f"{os.cpu_count()} cores, {platform.machine()}; {options.images} images, "
        f"batches of {options.batch_size}, median of {options.rounds} rounds",
        flush=True,
    )
    # Single images are too small for PyTorch's thread pool: it only slows the plain rows.
    torch.set_num_threads(1)
    rows: list[Row] = []
    for case in chosen:
        rows += measure(case, options.images, options.batch_size, options.rounds)
    print_table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
