"""Data sets in zip files: read in place, with the same result as from folders."""

from __future__ import annotations

import os
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reid_core.data import detect_datasets, find_dataset, fingerprint, load_dataset
from reid_core.data.archives import (
    exists,
    is_folder,
    list_entries,
    read_file,
    split_member,
    stamp,
)
from reid_core.data.cache import ImageCache
from reid_core.data.check import check_dataset
from reid_core.data.images import read_image
from reid_core.errors import DatasetError, DatasetNotFoundError, ImageFileError
from reid_core.testing.miniatures import write_miniature

NAMES = ("market1501", "dukemtmc", "msmt17")


def pack(folder: Path, archive: Path, *, enclosed: bool = True, method: int = 8) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder.parent if enclosed else folder))
    return archive


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An archive with a few files: stored, packed, empty, and in nested folders."""
    archive = tmp_path / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("top.txt", b"top")
        file.writestr("a/b/packed.txt", b"x" * 1000, zipfile.ZIP_DEFLATED)
        file.writestr("a/empty.txt", b"")
        file.mkdir("nothing")
    return archive


def test_contents_are_found_like_files(files: Path) -> None:
    assert read_file(files / "top.txt") == b"top"
    assert read_file(files / "a/b/packed.txt") == b"x" * 1000
    assert read_file(files / "a/empty.txt") == b""
    assert sorted(list_entries(files)) == [("a", True), ("nothing", True), ("top.txt", False)]
    assert sorted(list_entries(files / "a")) == [("b", True), ("empty.txt", False)]
    assert list_entries(files / "nothing") == []
    assert all(is_folder(files / name) for name in ("", "a", "a/b", "nothing"))
    assert not is_folder(files / "top.txt")
    assert exists(files / "a/b/packed.txt")
    assert exists(files / "a/b")
    assert not exists(files / "b")
    assert stamp(files / "a/b/packed.txt") == (1000, files.stat().st_mtime_ns)
    assert stamp(files) == (files.stat().st_size, files.stat().st_mtime_ns)


@pytest.mark.parametrize("prefix", ["./", ".\\", "/", "../"])
def test_names_are_those_below_the_archive(prefix: str, tmp_path: Path) -> None:
    archive, separator = tmp_path / "odd.zip", prefix[-1]
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("", f"a{separator}", f"a{separator}.hidden", f"a{separator}b.txt"):
            file.writestr(zipfile.ZipInfo(prefix + name), name)
    assert list_entries(archive) == [("a", True)]
    assert sorted(list_entries(archive / "a")) == [(".hidden", False), ("b.txt", False)]
    assert read_file(archive / "a" / "b.txt") == f"a{separator}b.txt".encode()


@pytest.mark.parametrize("call", [read_file, list_entries, stamp])
def test_what_is_absent_is_not_found(call, files: Path) -> None:
    with pytest.raises(FileNotFoundError):
        call(files / "a/nope")


def test_a_folder_may_be_called_like_an_archive(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked.zip"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x.txt").write_bytes(b"plain")
    assert split_member(folder / "a" / "x.txt") is None
    assert read_file(folder / "a" / "x.txt") == b"plain"
    assert list_entries(folder) == [("a", True)]


def test_an_archive_that_was_replaced_is_read_again(files: Path) -> None:
    assert not exists(files / "new.txt")
    with zipfile.ZipFile(files, "a") as file:
        file.writestr("new.txt", b"new")
    assert read_file(files / "new.txt") == b"new"


def test_threads_read_at_one_time(files: Path) -> None:
    with zipfile.ZipFile(files, "a") as file:
        for number in range(40):
            file.writestr(f"many/{number}.txt", str(number) * 5000, zipfile.ZIP_DEFLATED)
    start = threading.Barrier(8)

    def read(offset: int) -> bool:
        start.wait()
        numbers = [(offset * 5 + i) % 40 for i in range(40)]
        return all(read_file(files / f"many/{n}.txt") == (str(n) * 5000).encode() for n in numbers)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("enclosed", [True, False], ids=["enclosed", "bare"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_reads_like_its_folder(
    name: str, enclosed: bool, method: int, tmp_path: Path
) -> None:
    own = write_miniature(name, tmp_path / "folder", decodable=True)
    plain = load_dataset(name, own)
    archive = pack(own, tmp_path / "other name.zip", enclosed=enclosed, method=method)
    packed = load_dataset(name, archive)
    for split, samples in plain.splits.items():
        assert [
            (s.path.relative_to(packed.root), s.pid, s.camid) for s in packed.splits[split]
        ] == [(s.path.relative_to(own), s.pid, s.camid) for s in samples]
    assert fingerprint(packed) == fingerprint(plain)
    assert packed.notes == plain.notes
    assert packed.root == (archive / own.name if enclosed else archive)
    for one, other in zip(plain.train, packed.train, strict=True):
        assert np.array_equal(read_image(one.path), read_image(other.path))
    assert find_dataset(archive) == name


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_archive_is_found_in_its_folder(name: str, tmp_path: Path) -> None:
    from reid_core.data import READERS

    own = write_miniature(name, tmp_path / "elsewhere")
    (archive_name, *_) = READERS[name].info.archives
    archive = pack(own, tmp_path / "data" / archive_name)
    assert load_dataset(name, archive.parent).root == archive / own.name
    assert detect_datasets(archive.parent) == [name]
    # A folder goes first.
    unpacked = write_miniature(name, archive.parent)
    assert load_dataset(name, archive.parent).root == unpacked


def test_decoded_images_are_kept_like_those_of_files(tmp_path: Path) -> None:
    own = write_miniature("market1501", tmp_path / "folder", decodable=True)
    archive = pack(own, tmp_path / "market.zip")
    paths = [sample.path for sample in load_dataset("market1501", archive).train]

    def build() -> ImageCache:
        return ImageCache.build(paths, height=32, width=16, folder=tmp_path / "cache")

    first = build()
    assert (first.images == build().images).all()
    assert len(list((tmp_path / "cache").glob("*.cache"))) == 1
    # A replaced archive makes the copies worthless.
    os.utime(archive, ns=(0, 0))
    build()
    assert len(list((tmp_path / "cache").glob("*.cache"))) == 2


def test_the_doctor_reads_archives(tmp_path: Path) -> None:
    own = write_miniature("market1501", tmp_path / "folder", decodable=True)
    (own / "query/0003_c3s6_015971_00.jpg").write_bytes(b"no image")
    (own / "query/nonsense.jpg").write_bytes(b"")
    report = check_dataset("market1501", pack(own, tmp_path / "m.zip"))
    assert report.num_decoded == 7
    text = report.format()
    assert "query/nonsense.jpg" in text
    assert "not an image in a known format (it starts with b'no image')" in text


def test_a_zipped_synthetic_data_set_is_known_as_such(tmp_path: Path) -> None:
    own = write_miniature("dukemtmc", tmp_path / "folder")
    (own / "synthetic.json").write_text("{}")
    assert load_dataset("dukemtmc", pack(own, tmp_path / "d.zip")).synthetic


class TestDamage:
    def test_no_archive_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "Market-1501-v15.09.15.zip"
        path.write_bytes(b"half of a download")
        for root in (path, tmp_path):
            with pytest.raises(DatasetError, match=r"cannot read the archive .*; download or copy"):
                load_dataset("market1501", root)
            with pytest.raises(DatasetError, match="cannot read the archive"):
                find_dataset(root)

    def test_others_are_found_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "Market-1501-v15.09.15.zip").write_bytes(b"half of a download")
        write_miniature("ltcc", tmp_path)
        assert find_dataset(tmp_path) == "ltcc"

    def test_it_does_not_matter_beside_the_unpacked_folder(self, tmp_path: Path) -> None:
        folder = write_miniature("market1501", tmp_path)
        (tmp_path / "Market-1501-v15.09.15.zip").write_bytes(b"half of a download")
        assert find_dataset(tmp_path) == "market1501"
        assert load_dataset("market1501", tmp_path).root == folder

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_a_flipped_byte(self, method: int, tmp_path: Path) -> None:
        own = write_miniature("dukemtmc", tmp_path / "folder", decodable=True)
        archive = pack(own, tmp_path / "d.zip", method=method)
        path = load_dataset("dukemtmc", archive).train[0].path
        content = bytearray(archive.read_bytes())
        inner = path.relative_to(archive).as_posix().encode()
        content[content.index(inner) + len(inner) + 40] ^= 0xFF
        archive.write_bytes(content)
        with pytest.raises(ImageFileError, match=r"is damaged at .*; copy the archive again"):
            read_image(path)

    def test_a_lost_header(self, files: Path) -> None:
        content = bytearray(files.read_bytes())
        content[:4] = b"\0\0\0\0"
        files.write_bytes(content)
        with pytest.raises(DatasetError, match=r"damaged at top\.txt"):
            read_file(files / "top.txt")

    def test_more_than_the_archive_says_is_not_unpacked(self, files: Path) -> None:
        content = files.read_bytes()
        entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"packed.txt"))
        content = content[: entry + 24] + struct.pack("<L", 3) + content[entry + 28 :]
        files.write_bytes(content)
        with pytest.raises(DatasetError, match=r"damaged at a/b/packed\.txt \(checksum\)"):
            read_file(files / "a/b/packed.txt")

    def test_passwords_and_odd_methods_are_refused(self, files: Path) -> None:
        with zipfile.ZipFile(files, "a") as file:
            file.writestr("odd.txt", b"odd", zipfile.ZIP_BZIP2)
        with pytest.raises(DatasetError, match="method 12, which is not read in place; unpack"):
            exists(files / "a")
        content = files.read_bytes()
        entry = content.rindex(b"PK\x01\x02")
        flags = struct.pack("<H", 1)
        files.write_bytes(content[: entry + 8] + flags + content[entry + 10 :])
        os.utime(files, ns=(0, 0))
        with pytest.raises(DatasetError, match="asks for a password; unpack"):
            exists(files / "a")

    def test_data_sets_that_come_otherwise_are_to_be_unpacked(self, tmp_path: Path) -> None:
        own = write_miniature("ltcc", tmp_path / "folder")
        archive = pack(own, tmp_path / "ltcc.zip")
        with pytest.raises(DatasetNotFoundError, match="That is a file; unpack it"):
            load_dataset("ltcc", archive)

    def test_another_data_set_is_named(self, tmp_path: Path) -> None:
        own = write_miniature("msmt17", tmp_path / "folder")
        archive = pack(own, tmp_path / "m.zip")
        with pytest.raises(DatasetNotFoundError, match="What lies there looks like msmt17"):
            load_dataset("market1501", archive)

    def test_a_twin_is_not_recommended(self, tmp_path: Path) -> None:
        """DukeMTMC-reID has folders of the same names."""
        own = write_miniature("market1501", tmp_path / "folder")
        archive = pack(own, tmp_path / "m.zip")
        with pytest.raises(DatasetNotFoundError, match="looks like market1501") as caught:
            load_dataset("dukemtmc", archive)
        assert "too high" not in str(caught.value)

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        own = write_miniature("market1501", tmp_path / "folder", decodable=True)
        archive = pack(own, tmp_path / "m.zip")
        with pytest.raises(ImageFileError, match="the file does not exist"):
            read_image(archive / "query" / "0001_c1s1_000001_00.jpg")
        path = load_dataset("market1501", archive).train[0].path
        archive.unlink()
        with pytest.raises(ImageFileError, match=r"0002_c1s1"):
            read_image(path)
