"""--memory-limit: refused by figure with nothing left behind, and kept where it is accepted."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from reid_core.testing.commands import installed

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read in /proc")


class Ended(NamedTuple):
    status: int
    message: str
    peak: int
    """Largest resident size in MB (VmHWM), mapped libraries included."""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command in an empty folder and watches its memory."""

    def start(name, *args, limit):
        process = subprocess.Popen(
            [installed(name), *map(str, args), "--memory-limit", f"{limit}MB"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Arenas of threads are the allocator's choice; more cores would mean more of them.
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "4"},
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(0.02)
        return Ended(process.returncode, process.stderr.read(), peak)

    return start


def high_water(pid):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended, or this is no Linux
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 // 10**6 if found else 0


def figure(message):
    """Return the MB that a refusal says are needed."""
    return int(re.search(r"needs about ([\d,]+) MB", message)[1].replace(",", ""))


# What is measured at the start differs from one start to the next: by a few MB, or by more where
# another process has pushed pages of the libraries out of the system's cache.
ATTEMPTS = 4


def refusal(run, *command):
    """Run with too small limits and return the message that has all parts."""
    message = run(*command, limit=1).message
    for _ in range(ATTEMPTS):
        ended = run(*command, limit=figure(message) + 15)
        assert ended.status == 2, ended.message
        message = ended.message
        if len(message.splitlines()) > 4:  # more than what is there before any work
            return message
    raise AssertionError(message)


def accepted(run, *command, limit):
    """Run with a limit that is enough; return it, as far as it had to be raised, and the end."""
    for _ in range(ATTEMPTS):
        ended = run(*command, limit=limit)
        if ended.status == 0:
            return limit, ended
        limit = figure(ended.message) + 10
    raise AssertionError(ended.message)


def listing(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.fixture
def commands(finished, ltcc, small):
    folder = finished[0]
    # A GPU would hold a part of what is counted here.
    data = ("--device", "cpu", "--data", ltcc, "--out", "out")
    return {
        "train": ("aim-train", *data, *small, "--batch-size", 64, "--data.cache", "memory"),
        "evaluate": (
            *("aim-eval", "--weights", folder, *data, "--cache", "memory"),
            *("--height", 256, "--width", 128, "--batch-size", 64, "--rerank", "--confidence", 95),
        ),
        "embed": (
            *("aim-embed", ltcc, "--weights", folder, "--device", "cpu"),
            *("--out", "f.parquet"),
        ),
        "export": ("aim-export", "--weights", folder, "--format", "onnx", "--out", "m.onnx"),
        "export official": (
            *("aim-export", "--weights", folder, "--format", "official", "--out", "m.pth.tar"),
        ),
    }


PARTS = {
    "train": [
        "the networks",
        "the optimisers' moments",
        "decoded images of train (",
        "the networks' work on 64 images of 128 x 64",
        "a smaller --batch-size",
        "images in a file (--data.cache disk)",
    ],
    "evaluate": [
        "features of the test images (",
        "decoded images of gallery (",
        "batches of 64 images of 256 x 128",
        "the network's work on 64 images of 256 x 128",
        "comparison of all images",
        "neighbours of all images",
        "images in a file (--cache disk)",
    ],
    "embed": ["features (", "batches of 64 images", "the network's work on 64 images of 128 x 64"],
    "export": ["9 copies of the parameters", "libraries"],
    "export official": ["the training state"],
}


# Those that hold most are also run with a limit that is just enough.
KEPT = ("train", "evaluate")


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("name", PARTS)
def test_a_limit_is_refused_by_figure_or_kept(run, commands, name, tmp_path):
    cache = Path(os.environ["REID_CACHE"])
    before = listing(cache)
    message = refusal(run, *commands[name])
    for part in ("(measured)", *PARTS[name], "--memory-limit"):
        assert part in message
    assert "Traceback" not in message
    assert listing(tmp_path) == []
    assert listing(cache) == before
    if name in KEPT:
        limit, done = accepted(run, *commands[name], limit=figure(message) + 10)
        assert 200 < done.peak <= limit


@pytest.mark.slow
@LINUX
def test_images_go_to_a_file_where_memory_is_short(run, finished, ltcc, tmp_path):
    args = ("--weights", finished[0], "--data", ltcc, "--out", "e", "--batch-size", 1)
    command = ("aim-eval", *args, "--height", 512, "--width", 256, "--cache-dir", tmp_path / "c")
    limit = figure(refusal(run, *command, "--cache", "disk")) + 8  # the images need 17 MB
    asked = run(*command, "--cache", "memory", limit=limit)
    assert asked.status == 2
    assert re.search(r"13 MB  decoded images of gallery \(33, 512 x 256\)", asked.message)
    assert listing(tmp_path) == []
    accepted(run, *command, limit=limit)
    assert len(list((tmp_path / "c").glob("*.cache"))) == 2


@pytest.mark.parametrize("name", ["train", "evaluate", "embed", "export"])
def test_no_size(run, commands, name, tmp_path):
    command = commands[name]
    done = subprocess.run(
        [installed(command[0]), *map(str, command[1:]), "--memory-limit", "much"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'much' is no size of memory" in done.stdout + done.stderr
    assert listing(tmp_path) == []


def test_a_resumed_run_may_have_another_limit(run, finished, ltcc, small, tmp_path):
    import shutil

    shutil.copytree(finished[0], tmp_path / "run")
    resumed = ("aim-train", "--resume", "run", "--epochs", 2)
    refused = run(*resumed, limit=1)
    assert refused.status == 2
    assert "training needs about" in refused.message
    done = run(*resumed, limit=8000)
    assert done.status == 0, done.message
