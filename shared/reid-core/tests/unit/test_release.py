"""tools/release.py in a small workspace of its own, with a stand-in for Poetry."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[4] / "tools/release.py"

# Does what the release needs of Poetry, and fails, or is interrupted, where it is told to.
POETRY = f"""#!{sys.executable}
import os, re, signal, sys
from pathlib import Path
args = sys.argv[1:]
step = "lock" if args == ["lock"] else "version"
if os.environ.get("FAILS") == step:
    Path("poetry.lock").write_text("half-written")
    sys.exit(1)
if os.environ.get("INTERRUPTED") == step:
    os.kill(os.getppid(), signal.SIGINT)
    sys.exit(0)
if step == "version":
    assert args[0] == "-P" and args[2] == "version", args
    file = Path(args[1], "pyproject.toml")
    text = re.sub(r'^version = ".*"', f'version = "{{args[3]}}"', file.read_text(), flags=re.M)
    file.write_text(text)
else:
    files = sorted(Path().glob("*/pyproject.toml"))
    Path("poetry.lock").write_text("".join(file.read_text() for file in files))
"""

WORKSPACE = """
[tool.poetry.group.packages.dependencies]
reid-core = { path = "core", develop = true }
reid-aim = { path = "aim", develop = true }
reid-agw = { path = "agw", develop = true }
"""

CHANGELOG = """# Changelog

## Unreleased

### Added

- Something.

## 0.0.9 - 2026-01-01

- The first one.
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Return a committed workspace of reid-core and two methods; it is the working folder."""
    folder, programs = tmp_path / "workspace", tmp_path / "bin"
    programs.mkdir()
    (programs / "poetry").write_text(POETRY)
    (programs / "poetry").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    for name in ("core", "aim", "agw"):
        package = folder / name
        package.mkdir(parents=True)
        needs = "numpy" if name == "core" else "reid-core>=0.1,<0.2"
        (package / "pyproject.toml").write_text(
            f'[project]\nname = "reid-{name}"\nversion = "0.1.0"\ndependencies = ["{needs}"]\n'
        )
        (package / "CHANGELOG.md").write_text(CHANGELOG)
    (folder / "pyproject.toml").write_text(WORKSPACE)
    (folder / "poetry.lock").write_text("old\n")
    monkeypatch.chdir(folder)
    git("init", "-q")
    commit()
    return folder


def git(*args):
    return subprocess.run(["git", *args], capture_output=True, text=True, check=True).stdout


def commit():
    git("add", "-A")
    git("commit", "-q", "-m", "state")


def release(*args, **env):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def state():
    """Return everything that a release may change."""
    files = {str(path): path.read_bytes() for path in Path().glob("[a-z]*/*")}
    files["poetry.lock"] = Path("poetry.lock").read_bytes()
    return files, git("rev-parse", "HEAD"), git("tag"), git("status", "--porcelain")


def refused(*args, **env):
    """Run a release that must change nothing; return its message."""
    before = state()
    done = release(*args, **env)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert state() == before
    return done.stderr


@pytest.mark.parametrize(
    ("rule", "version"),
    [("major", "1.0.0"), ("minor", "0.2.0"), ("patch", "0.1.1"), ("0.1.0", "0.1.0")],
)
def test_a_release_is_one_commit_and_one_tag(workspace, rule, version):
    done = release("aim", rule)
    assert done.returncode == 0, done.stderr
    assert git("tag").split() == [f"reid-aim-v{version}"]
    assert git("rev-parse", "HEAD") == git("rev-parse", f"reid-aim-v{version}")
    assert git("log", "--format=%s").splitlines() == [f"reid-aim {version}", "state"]
    assert git("status", "--porcelain") == ""
    assert f'version = "{version}"' in (workspace / "aim/pyproject.toml").read_text()
    assert f'version = "{version}"' in (workspace / "poetry.lock").read_text()
    text = (workspace / "aim/CHANGELOG.md").read_text()
    dated = rf"## Unreleased\n\n## {version} - \d{{4}}-\d\d-\d\d\n\n### Added\n\n- Something.\n\n##"
    assert re.search(dated, text)
    changed = git("show", "--name-only", "--format=").split()
    bumped = [] if rule == "0.1.0" else ["aim/pyproject.toml"]
    assert changed == ["aim/CHANGELOG.md", *bumped, "poetry.lock"]
    assert f"reid-aim {version} is committed and tagged as reid-aim-v{version}" in done.stdout


def test_what_is_easily_overlooked_is_said(workspace):
    said = release("aim", "minor").stdout
    assert "reid-aim 0.1.0, which was there before, has never been released" in said
    assert "it needs reid-core>=0.1,<0.2, and no such reid-core has been released" in said
    git("tag", "reid-core-v0.1.3")
    git("tag", "reid-agw-v0.1.0")
    assert "Note" not in release("agw", "patch").stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "say which package and how"),
        (("aim",), "say which package and how"),
        (("reid-aim", "minor"), "no package 'reid-aim'; choose from core, aim, agw"),
        (("aim", "bigger"), "'bigger' is no release: choose from major, minor, patch, or say"),
        (("aim", "0.0.9"), "not before 0.1.0"),
        (("aim", "0.2.0rc1"), "'0.2.0rc1' is no release"),
        (("aim", "0.2"), "'0.2' is no release"),
    ],
)
def test_arguments_that_make_no_sense(workspace, args, message):
    assert message in refused(*args)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("## Unreleased\n\n## 0.0.9\n\n- Old.\n", "says nothing under Unreleased"),
        ("## Unreleased\n\n### Added\n\n### Fixed\n", "says nothing under Unreleased"),
        ("## 0.0.9\n\n- Old.\n", "says nothing under Unreleased"),
        ("## Unreleased\n\n- New.\n\n## 0.2.0 - 2026-01-01\n", "has a section 0.2.0 already"),
    ],
)
def test_changelogs_that_say_nothing(workspace, body, message):
    (workspace / "aim/CHANGELOG.md").write_text(f"# Changelog\n\n{body}")
    commit()
    assert message in refused("aim", "minor")


@pytest.mark.parametrize("file", ["aim/CHANGELOG.md", "new.txt"])
def test_changes_that_are_not_committed(workspace, file):
    (workspace / file).write_text("changed")
    message = refused("aim", "minor")
    assert "there are changes that are not committed" in message
    assert file in message


def test_a_version_that_has_its_tag(workspace):
    git("tag", "reid-aim-v0.2.0")
    assert "reid-aim 0.2.0 is released already" in refused("aim", "minor")


def test_without_poetry(workspace, tmp_path):
    programs = tmp_path / "only git"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git"))
    assert "poetry is not installed" in refused("aim", "minor", PATH=str(programs))


@pytest.mark.parametrize("way", ["FAILS", "INTERRUPTED"])
@pytest.mark.parametrize("step", ["version", "lock"])
def test_a_step_that_fails_takes_the_others_back(workspace, way, step):
    before = state()
    done = release("aim", "minor", **{way: step})
    assert done.returncode != 0
    assert state() == before
    assert f"{'failed' if way == 'FAILS' else 'interrupted'}; nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("hook", ["pre-commit", "post-commit"])
def test_a_commit_or_a_tag_that_fails_takes_everything_back(workspace, hook):
    script = workspace / ".git/hooks" / hook
    # The second lets the commit happen and puts an obstacle in the tag's way.
    text = "exit 1" if hook == "pre-commit" else "mkdir -p .git/refs/tags/reid-aim-v0.2.0/x"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\n{text}\ntouch .git/refs/tags/reid-aim-v0.2.0/x/y.lock\n")
    script.chmod(0o755)
    assert "failed; nothing was changed" in refused("aim", "minor")


def test_a_core_that_methods_refuse(workspace):
    message = " ".join(refused("core", "minor").split())
    assert "reid-core 0.2.0 is outside of what these accept" in message
    for name in ("aim", "agw"):
        assert f'{name}/pyproject.toml: reid-core>=0.1,<0.2 -> "reid-core>=0.1,<0.3"' in message
    assert '"reid-core>=0.2,<0.3" if it needs the new one' in message
    assert "nox -s release -- core 0.2.0" in message
    assert '"reid-core>=0.1,<2"' in " ".join(refused("core", "major").split())


def test_a_core_that_methods_accept(workspace):
    for name in ("aim", "agw"):
        file = workspace / name / "pyproject.toml"
        file.write_text(file.read_text().replace("<0.2", "<0.3"))
    commit()
    assert release("core", "minor").returncode == 0
    assert git("tag").split() == ["reid-core-v0.2.0"]
