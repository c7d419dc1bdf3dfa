"""Sizes, what a process may have, and plans that are refused before the work starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reid_core import memory
from reid_core.errors import ConfigError, MemoryLimitError, ReIDError
from reid_core.memory import MemoryPlan, available_memory, parse_size, resident_memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="process limits are POSIX")

MB = 10**6


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets the memory of the machine and of this process."""

    def give(total: int, resident: int | None = 100 * MB) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: total)
        monkeypatch.setattr(memory, "resident_memory", lambda: resident)

    return give


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8GB", 8 * 10**9),
        ("8gb", 8 * 10**9),
        ("8 G", 8 * 10**9),
        ("1.5GB", 1_500_000_000),
        ("512MB", 512 * MB),
        ("100kB", 100_000),
        ("2T", 2 * 10**12),
        ("4GiB", 4 * 2**30),
        ("800Mi", 800 * 2**20),
        ("1KiB", 1024),
        (" 300 mib ", 300 * 2**20),
        ("123456", 123_456),
        ("123456B", 123_456),
    ],
)
def test_sizes(text, num_bytes):
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "GB", "0", "0GB", "0.1", "-1GB", "8 gigs", "8GBit", "8iB", "1e9", "8,5GB", "nan"]
)
def test_no_sizes(text):
    with pytest.raises(ConfigError, match=r"no size of memory.*8GB, 512MB, 4GiB"):
        parse_size(text)


# ------------------------------------------------------------------ what there is


def test_this_machine():
    assert 2**28 < available_memory() < 2**50
    assert 0 < (resident_memory() or 1) < available_memory()


@LINUX
def test_resident_memory_grows_with_what_is_written():
    before = resident_memory()
    block = bytearray(os.urandom(1024) * 2**15)  # 32 MiB
    assert resident_memory() - before > len(block) * 0.9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that makes control groups of the given limits and puts us into one."""

    def make(membership: str, limits: dict[str, str]) -> list[int]:
        for path, limit in limits.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n")
        (tmp_path / "self").write_text(membership)
        monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "self")
        return sorted(memory._group_limits())

    return make


def test_group_version_2_and_those_above_it(groups):
    limits = {"memory.max": "max", "batch/memory.max": "900", "batch/job/memory.max": "800"}
    assert groups("0::/batch/job\n", limits) == [800, 900]


def test_group_inside_a_container_version_2(groups):
    assert groups("0::/\n", {"memory.max": "700"}) == [700]


def test_group_whose_name_is_that_outside(groups):
    assert groups("0::/docker/1234\n", {"memory.max": "600"}) == [600]


def test_group_version_1(groups):
    name = "memory.limit_in_bytes"
    limits = {f"memory/{name}": "500", f"memory/a/b/{name}": "400", f"cpu/a/{name}": "1"}
    membership = "9:name=systemd:/x\n4:cpu,memory:/a/b\n3:cpu:/a\n"
    assert groups(membership, limits) == [400, 500]


def test_no_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "absent")
    assert list(memory._group_limits()) == []


def test_the_smallest_bound_counts(groups, monkeypatch):
    groups("0::/\n", {"memory.max": "12345"})
    assert available_memory() == 12345
    monkeypatch.setattr(memory, "_machine_memory", lambda: 1234)
    assert available_memory() == 1234


@POSIX
def test_limits_of_the_process(monkeypatch):
    import resource

    limits = {resource.RLIMIT_AS: 10**9, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], -1))
    assert list(memory._process_limits()) == [10**9]


# ------------------------------------------------------------------ plans


def test_what_fits_is_accepted(machine):
    machine(1000 * MB)
    plan = MemoryPlan("600MB", reserve=0)
    plan.add("images", 500 * MB)
    assert plan.room == 0
    plan.require("work")
    plan.add("one more", 1)
    with pytest.raises(MemoryLimitError):
        plan.require("work")


def test_the_message_names_every_part_its_figure_the_limit_and_what_helps(machine):
    machine(10_000 * MB)
    plan = MemoryPlan("600MB", reserve=50 * MB)
    plan.add("decoded images", 200 * MB, remedy="--cache disk")
    plan.add("batches", 100 * MB, phase="while embedding", remedy="a smaller --batch-size")
    plan.add("scores", 30 * MB, phase="while ranking", remedy="no ranking, which is not to blame")
    plan.add("activations", 1_300 * MB, phase="while embedding", remedy="a smaller --batch-size")
    with pytest.raises(MemoryLimitError) as caught:
        plan.require("evaluation")
    assert str(caught.value).splitlines() == [
        "evaluation needs about 1,750 MB of memory, but --memory-limit allows 600 MB:",
        "        100 MB  Python, its libraries and what is loaded (measured)",
        "         50 MB  reserve for all that is not listed",
        "        200 MB  decoded images",
        "  while embedding:",
        "        100 MB  batches",
        "      1,300 MB  activations",
        "  while ranking:",
        "         30 MB  scores",
        "What helps: a smaller --batch-size; --cache disk; a higher --memory-limit.",
    ]
    assert isinstance(caught.value, ReIDError)


def test_phases_are_not_there_at_the_same_time(machine):
    machine(1000 * MB)
    plan = MemoryPlan(reserve=0)
    plan.add("always", 10 * MB)
    plan.add("first", 30 * MB, phase="a")
    plan.add("second", 40 * MB, phase="b")
    plan.add("third", 20 * MB, phase="a")
    assert plan.total == (100 + 10 + 50) * MB
    assert plan.room == 840 * MB
    assert plan.room_during("b") == 850 * MB
    assert plan.room_during("c") == 890 * MB


def test_without_a_limit_the_machine_is_the_bound(machine):
    machine(1000 * MB)
    plan = MemoryPlan(reserve=0)
    assert plan.allowed == 1000 * MB
    plan.add("images", 901 * MB)
    with pytest.raises(MemoryLimitError, match=r"this process can have 1,000 MB") as caught:
        plan.require("training")
    assert "--memory-limit" not in str(caught.value)
    assert "a machine with more memory" in str(caught.value)


def test_a_limit_beyond_the_machine_does_not_raise_the_bound(machine):
    machine(1000 * MB)
    assert MemoryPlan("4GB").allowed == 1000 * MB


def test_processes_share_a_machine_but_not_a_limit(machine):
    machine(1000 * MB)
    assert MemoryPlan(processes=4).allowed == 250 * MB
    assert MemoryPlan("200MB", processes=4).allowed == 200 * MB


def test_where_the_platform_does_not_tell_a_usual_size_is_assumed(machine):
    machine(4000 * MB, resident=None)
    plan = MemoryPlan()
    assert "assumed" in plan.parts[0].what
    assert plan.parts[0].num_bytes > 500 * MB


def test_an_unreadable_limit_is_refused():
    with pytest.raises(ConfigError, match="'much' is no size"):
        MemoryPlan("much")


def test_imports_no_torch():
    import subprocess

    code = (
        "import sys, reid_core.memory; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert Path(memory.__file__).is_file()
