"""Atomic files: whole or not there, whatever goes wrong."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from reid_core.errors import OutputError
from reid_core.files import atomic_file, remove_leftovers, user_cache_folder, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, content=b"new", error=None, **options):
    with atomic_file(path, **options) as file:
        file.write(content)
        if error is not None:
            raise error


def test_file_appears_whole(tmp_path):
    path = tmp_path / "n\u00e4me with space.bin"
    with atomic_file(path) as file:
        file.write(b"12")
        assert not path.exists()
        file.write(b"34")
    assert path.read_bytes() == b"1234"
    assert names(tmp_path) == [path.name]


def test_file_is_replaced(tmp_path):
    path = tmp_path / "a"
    for content in (b"old", b"new"):
        write(path, content)
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("durable", [True, False])
def test_only_durable_files_wait_for_the_disk(tmp_path, monkeypatch, durable):
    waits = []
    monkeypatch.setattr(os, "fsync", waits.append)
    with atomic_file(tmp_path / "a", durable=durable) as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert bool(waits) == durable
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic_file(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), FileNotFoundError(2)])
def test_failure_of_the_body_passes_through(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        write(path, b"half", error)
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


REFUSALS = [
    (
        errno.ENOSPC,
        r"No space left on device\. About 2\.5 MB are needed\. Free there: [\d.]+ \w+\. X$",
    ),
    (errno.EFBIG, r"File too large\. About 2\.5 MB are needed\. Free there: [\d.]+ \w+\. X$"),
    (errno.EROFS, r"Read-only file system\. Choose a folder that you may write to"),
    (errno.EIO, r"error\. X$"),
]


@pytest.mark.parametrize(("code", "message"), REFUSALS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_refused_write(tmp_path, monkeypatch, code, message, call):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    def refuse_recorded(file, data):
        with file.recording():
            refuse()

    if call == "write":
        monkeypatch.setattr("reid_core.files._RecordingFile.write", refuse_recorded)
    else:
        monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError, match=message):
        write(path, needed=2_500_000, advice="X")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_missing_folder(tmp_path):
    with (
        pytest.raises(OutputError, match="No such file or directory"),
        atomic_file(tmp_path / "b/a"),
    ):
        pass


def test_cache_folder_of_a_user_without_home(monkeypatch):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    for name in ("REID_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(OutputError, match="REID_CACHE"):
        user_cache_folder()
    monkeypatch.setenv("REID_CACHE", "here")
    assert user_cache_folder() == Path("here")


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".last.pt.0a1b2c3d.tmp", "last.pt", ".lock", "notes.tmp", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", ".lock", "last.pt", "notes.tmp"]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"path": "donn\u00e9es", "n": [1, 2]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "path": "donn\u00e9es",\n  "n": [\n    1,\n    2\n  ]\n}\n'


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


def test_refused_json_keeps_the_file_before(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"x": 1})

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"a\.json: No space left on device"):
        write_json(tmp_path / "a.json", {"x": 2})
    monkeypatch.undo()
    assert (tmp_path / "a.json").read_text() == '{\n  "x": 1\n}\n'
    assert names(tmp_path) == ["a.json"]
