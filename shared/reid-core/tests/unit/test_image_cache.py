"""The decode-once cache: contents, reuse, damage, full disks, several processes."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from reid_core.data import cache_file, images
from reid_core.data.cache import ImageCache
from reid_core.data.cache_spec import CacheSpec
from reid_core.data.images import decode_resized
from reid_core.errors import ConfigError, DatasetError, ImageFileError, OutputError

HEIGHT, WIDTH = 32, 16


def write_images(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{i:04d}.jpg" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (50, 30, 3), dtype=np.uint8)).save(path)
    return paths


def build(paths: list[Path], folder: Path | None = None, **options: Any) -> ImageCache:
    return ImageCache.build(
        paths, height=HEIGHT, width=WIDTH, folder=folder, num_threads=2, **options
    )


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images", 7)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths that were encoded since the test began."""
    seen: list[Path] = []
    encode = CacheSpec.encode

    def recording(self: CacheSpec, path: Path) -> Any:
        seen.append(path)
        return encode(self, path)

    monkeypatch.setattr(CacheSpec, "encode", recording)
    return seen


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("crop_scale", [None, 1.125, 1.3])
def test_pixels_are_pillows(
    where: str, interpolation: Any, crop_scale: float | None, paths: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "cache" if where == "disk" else None
    cache = build(paths, folder, interpolation=interpolation, crop_scale=crop_scale)
    assert cache.paths == tuple(paths)
    assert len(cache) == len(paths)
    assert cache.images.shape == (7, 3, HEIGHT, WIDTH)
    assert (cache.file is None) == (where == "memory")
    for path, pixels in zip(paths, cache.images, strict=True):
        assert (pixels == decode_resized(path, HEIGHT, WIDTH, interpolation)).all()
    if crop_scale is None:
        assert cache.enlarged is None
        return
    size = (round(WIDTH * crop_scale), round(HEIGHT * crop_scale))
    for pixels, large in zip(cache.images, cache.enlarged, strict=True):
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        wanted = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        assert (large.transpose(1, 2, 0) == wanted).all()


def test_nobody_can_write_into_a_cache(paths: list[Path], tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        cache = build(paths, folder, crop_scale=1.125)
        for pixels in (cache.images, cache.enlarged):
            with pytest.raises(ValueError, match="read-only"):
                pixels[0] = 0


def test_read_copies(paths: list[Path]) -> None:
    cache = build(paths)
    pixels, indices = cache.read(np.array([3, 0, 3]))
    assert indices.tolist() == [3, 0, 3]
    assert (pixels == cache.images[[3, 0, 3]]).all()
    pixels[:] = 0  # writable, and its own


def test_progress_counts_every_image(paths: list[Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    build(paths, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 7) for i in range(7)]
    calls.clear()
    build(paths, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(7, 7)]


def test_second_build_decodes_nothing(
    paths: list[Path], tmp_path: Path, decoded: list[Path]
) -> None:
    first = build(paths, tmp_path / "cache")
    assert sorted(decoded) == paths
    decoded.clear()
    second = build(paths, tmp_path / "cache")
    assert decoded == []
    assert second.file == first.file
    assert (second.images == first.images).all()


def touch_later(paths: list[Path]) -> None:
    os.utime(paths[2], ns=(0, 1_000_000_007))


def replace_by_larger(paths: list[Path]) -> None:
    status = paths[1].stat()
    Image.fromarray(np.zeros((90, 40, 3), np.uint8)).save(paths[1], quality=100)
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[list[Path]], object], dict[str, Any]]] = {
    "time": (touch_later, {}),
    "size": (replace_by_larger, {}),
    "order": (lambda paths: paths.reverse(), {}),
    "one less": (lambda paths: paths.pop(), {}),
    "filter": (lambda paths: None, {"interpolation": "bicubic"}),
    "crop": (lambda paths: None, {"crop_scale": 1.125}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_anything_that_changes_the_pixels_makes_a_new_cache(
    name: str, paths: list[Path], tmp_path: Path, decoded: list[Path]
) -> None:
    change, options = CHANGES[name]
    build(paths, tmp_path / "cache")
    change(paths)
    decoded.clear()
    cache = build(paths, tmp_path / "cache", **options)
    assert sorted(decoded) == sorted(paths)
    interpolation = options.get("interpolation", "bilinear")
    for path, pixels in zip(paths, cache.images, strict=True):
        assert (pixels == decode_resized(path, HEIGHT, WIDTH, interpolation)).all()


def overwrite(position: int, text: bytes) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with file.open("r+b") as stream:
            stream.seek(position, os.SEEK_SET if position >= 0 else os.SEEK_END)
            stream.write(text)

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda file: os.truncate(file, file.stat().st_size - 100),
    "cut to the header": lambda file: os.truncate(file, 40),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "other magic": overwrite(0, b"XX"),
    "other version": overwrite(8, b"\xff"),
    "other count": overwrite(12, b"\xff"),
    "huge count": overwrite(12, b"\xff" * 8),
    "other description": overwrite(-10, b"?"),
    "something else": lambda file: file.write_text("not a cache at all, but long enough to be one"),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_file_is_built_again(
    name: str,
    paths: list[Path],
    tmp_path: Path,
    decoded: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = build(paths, tmp_path / "cache")
    wanted, file = cache.images.copy(), cache.file
    del cache
    DAMAGES[name](file)
    decoded.clear()
    with caplog.at_level(logging.WARNING):
        again = build(paths, tmp_path / "cache")
    assert "is damaged" in caplog.text
    assert sorted(decoded) == paths
    assert (again.images == wanted).all()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [file.name]


def test_file_of_other_images_under_the_right_name(paths: list[Path], tmp_path: Path) -> None:
    cache, other = build(paths, tmp_path / "cache"), build(paths[::-1], tmp_path / "other")
    wanted = cache.images.copy()
    shutil.copyfile(other.file, tmp_path / "copy")
    (tmp_path / "copy").replace(cache.file)
    assert (build(paths, tmp_path / "cache").images == wanted).all()


class Broken(NamedTuple):
    paths: list[Path]
    bad: list[int]


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    paths = write_images(tmp_path / "images", 9)
    bad = [0, 3, 4, 5, 7, 8]
    for i in bad:
        paths[i].write_bytes(b"" if i % 2 else paths[i].read_bytes()[:-200])
    return Broken(paths, bad)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_bad_images_stop_the_build(where: str, broken: Broken, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(ImageFileError) as caught:
        build(broken.paths, folder if where == "disk" else None)
    message = str(caught.value)
    assert message.startswith("6 of 9 images cannot be read:")
    assert [str(broken.paths[i]) in message for i in broken.bad] == [True] * 5 + [False]
    if where == "disk":
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_bad_images_are_left_out(
    where: str, broken: Broken, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache" if where == "disk" else None
    with caplog.at_level(logging.WARNING):
        cache = build(broken.paths, folder, skip_corrupt=True)
    good = [i for i in range(9) if i not in broken.bad]
    assert cache.kept.tolist() == good
    assert cache.paths == tuple(broken.paths[i] for i in good)
    assert list(cache.skipped) == [broken.paths[i] for i in broken.bad]
    assert "is empty" in cache.skipped[broken.paths[3]]
    assert cache.select(list("abcdefghi")) == ["b", "c", "g"]
    assert caplog.text.count("left out: cannot read image") == 6
    for i, pixels in zip(good, cache.images, strict=True):
        assert (pixels == decode_resized(broken.paths[i], HEIGHT, WIDTH)).all()
    with pytest.raises(ValueError, match="8 entries for 9 images"):
        cache.select(list("abcdefgh"))


def test_all_images_bad(broken: Broken) -> None:
    with pytest.raises(ImageFileError, match="2 of 2 images cannot be read"):
        build([broken.paths[0], broken.paths[3]], skip_corrupt=True)


def test_cache_with_gaps_is_reused_only_where_gaps_are_allowed(
    broken: Broken, tmp_path: Path, decoded: list[Path]
) -> None:
    build(broken.paths, tmp_path / "cache", skip_corrupt=True)
    decoded.clear()
    again = build(broken.paths, tmp_path / "cache", skip_corrupt=True)
    assert decoded == []
    assert again.kept.tolist() == [1, 2, 6]
    with pytest.raises(ImageFileError, match="6 of 9 images cannot be read"):
        build(broken.paths, tmp_path / "cache")


def test_cache_with_gaps_is_rebuilt_when_a_file_became_readable(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a chmod, which changes neither the size nor the time of a file.
    open_image = images.Image.open

    def refuse(path: Path) -> Image.Image:
        if path == paths[2]:
            raise PermissionError(13, "Permission denied")
        return open_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(images.Image, "open", refuse)
        assert len(build(paths, tmp_path / "cache", skip_corrupt=True)) == 6
    assert len(build(paths, tmp_path / "cache", skip_corrupt=True)) == 7


def test_full_disk_is_noticed_before_anything_is_written(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError) as caught:
        build(paths, tmp_path / "cache")
    message = str(caught.value)
    assert "About 10.8 kB are needed" in message  # 7 x 3 x 32 x 16 = 10,752
    assert "5.0 kB" in message
    assert "--data.cache-dir" in message
    assert decoded == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_disk_that_fills_up_meanwhile(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="limits of processes exist on POSIX only")
    signal = pytest.importorskip("signal")
    monkeypatch.setattr(cache_file, "_RESERVE_BYTES", 0)
    # A limit on file sizes fails a write like a full disk does, once its signal is ignored.
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, old_limit[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*images-32x16-"):
            build(paths, tmp_path / "cache")
        assert not [t for t in threading.enumerate() if t.name.startswith("reid-prefetch")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert list((tmp_path / "cache").iterdir()) == []


def test_folder_that_cannot_be_made(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        build(paths, tmp_path / "file" / "cache")


def test_interrupted_build_leaves_nothing(paths: list[Path], tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(paths, tmp_path / "cache", progress=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


def test_temporary_files_of_killed_processes_are_removed(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    dead, alive = folder / ".images-1.cache.00ff.tmp", folder / ".images-2.cache.11ff.tmp"
    dead.touch()
    alive.touch()
    os.utime(dead, (time.time() - 7200, time.time() - 7200))
    build(paths, folder)
    assert not dead.exists()
    assert alive.exists()


def test_does_not_fit_into_memory(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(ConfigError, match=r"need 10,752 bytes of memory.*--data.cache disk"):
        build(paths)


def test_no_images() -> None:
    with pytest.raises(DatasetError, match="the list of files is empty"):
        build([])


def test_impossible_size(paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match="0 x 16"):
        ImageCache.build(paths, height=0, width=16)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_pickle(where: str, paths: list[Path], tmp_path: Path) -> None:
    cache = build(paths, tmp_path / "cache" if where == "disk" else None, crop_scale=1.125)
    data = pickle.dumps(cache)
    if where == "disk":
        assert len(data) < cache.images.nbytes  # a reference, not the pixels
    copy = pickle.loads(data)
    assert copy.paths == cache.paths
    assert (copy.images == cache.images).all()
    assert (copy.enlarged == cache.enlarged).all()
    assert not copy.images.flags.writeable


def test_pickle_of_a_file_that_is_gone(paths: list[Path], tmp_path: Path) -> None:
    cache = build(paths, tmp_path / "cache")
    data = pickle.dumps(cache)
    file = cache.file
    del cache
    file.unlink()
    with pytest.raises(DatasetError, match="gone or was replaced"):
        pickle.loads(data)


BUILD_AND_SUM = """
import sys
from pathlib import Path

import numpy as np

from reid_core.data.cache import ImageCache

height, width, folder, *paths = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
cache = ImageCache.build(
    [Path(path) for path in paths],
    height=int(height),
    width=int(width),
    folder=Path(folder),
    num_threads=2,
)
print(int(cache.images.sum(dtype=np.int64)))
"""


def test_processes_that_build_at_once(paths: list[Path], tmp_path: Path) -> None:
    arguments = [str(value) for value in (HEIGHT, WIDTH, tmp_path / "cache", *paths)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD_AND_SUM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = {int(process.communicate(timeout=120)[0]) for process in processes}
    assert found == {int(build(paths).images.sum(dtype=np.int64))}
    assert len(list((tmp_path / "cache").iterdir())) == 1
