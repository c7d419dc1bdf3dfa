"""Release one package: its version, its changelog, the lock file, one commit and one tag.

``nox -s release -- aim minor`` runs this in the workspace's root. Everything is checked before
anything is changed, and a step that fails takes the ones before it back.
"""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

__all__ = ["Release", "ReleaseError", "carry_out", "main", "prepare"]

_RULES = ("major", "minor", "patch")
_UNRELEASED = re.compile(r"^## Unreleased\n(?P<body>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LOCK = Path("poetry.lock")


class ReleaseError(Exception):
    """Why there is no release; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release that has been checked.

    Attributes:
        name: The distribution, e.g. ``reid-aim``.
        folder: Its folder in the workspace.
        version: The new version.
        changelog: The new text of its changelog.
        notes: What to know, one line each.
    """

    name: str
    folder: Path
    version: Version
    changelog: str
    notes: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The tag of the release's commit."""
        return f"{self.name}-v{self.version}"

    @property
    def files(self) -> tuple[Path, ...]:
        """What the release changes."""
        return (self.folder / "pyproject.toml", self.folder / "CHANGELOG.md", _LOCK)


def prepare(package: str, rule: str, today: datetime.date) -> Release:
    """Check that the package of the workspace in the working folder can be released.

    Args:
        package: Its name without ``reid-``, e.g. ``aim``.
        rule: ``major``, ``minor``, ``patch``, or the version itself.
        today: The date in the changelog.

    Raises:
        ReleaseError: When it cannot; nothing was changed.
    """
    folders = _packages()
    name = f"reid-{package}"
    if name not in folders:
        known = ", ".join(folder.removeprefix("reid-") for folder in folders)
        raise ReleaseError(f"there is no package {package!r}; choose from {known}")
    folder = folders[name]
    version = _next_version(Version(_project(folder)["version"]), rule)
    for program in ("git", "poetry"):
        if shutil.which(program) is None:
            raise ReleaseError(f"{program} is not installed (or not on PATH)")
    changes = _output("git", "status", "--porcelain")
    if changes:
        raise ReleaseError(f"there are changes that are not committed:\n{changes}")
    tags = _output("git", "tag", "--list").split()
    if f"{name}-v{version}" in tags:
        raise ReleaseError(f"{name} {version} is released already: there is its tag")
    changelog = _dated(folder / "CHANGELOG.md", version, today)
    accepted = {
        method: _core_requirement(folders[method]) for method in folders if method != "reid-core"
    }
    if name == "reid-core":
        _check_ranges(version, accepted, folders)
    return Release(
        name=name,
        folder=folder,
        version=version,
        changelog=changelog,
        notes=_notes(name, _project(folder)["version"], rule, tags, accepted.get(name)),
    )


def carry_out(release: Release) -> None:
    """Bump, date, lock, commit and tag; all of it or nothing.

    Raises:
        ReleaseError: When a step fails; everything is as before.
    """
    before = {file: file.read_bytes() for file in release.files}
    head = _output("git", "rev-parse", "HEAD")
    version = str(release.version)
    try:
        _run("poetry", "-P", str(release.folder), "version", version)
        found = _project(release.folder)["version"]
        if found != version:
            raise ReleaseError(f"poetry wrote version {found}, not {version}")
        (release.folder / "CHANGELOG.md").write_text(release.changelog, encoding="utf-8")
        _run("poetry", "lock")
        paths = [str(file) for file in release.files]
        _run("git", "commit", "--quiet", "-m", f"{release.name} {version}", "--", *paths)
        _run("git", "tag", release.tag)
    except BaseException:  # also Ctrl-C
        # The tree was clean: the files go back to their contents, branch and index to the commit.
        for file, content in before.items():
            file.write_bytes(content)
        _run("git", "reset", "--quiet", "--mixed", head)
        raise


def main(args: Sequence[str]) -> str:
    """Release what the arguments say; return what to tell.

    Raises:
        ReleaseError: When there is no release; nothing was changed.
    """
    if len(args) != 2:
        raise ReleaseError("say which package and how: nox -s release -- aim minor")
    release = prepare(args[0], args[1], datetime.date.today())
    carry_out(release)
    wheel = f"dist/{release.name.replace('-', '_')}-{release.version}*"
    lines = [
        f"{release.name} {release.version} is committed and tagged as {release.tag}. Now:",
        f"  nox -s build wheel && twine upload {wheel}",
        f"  git push origin HEAD {release.tag}",
        "  nox -s dev    (editable installs keep the version that they were installed with)",
        *release.notes,
    ]
    return "\n".join(lines)


def _packages() -> dict[str, Path]:
    """Return the workspace's distributions and their folders."""
    poetry = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["poetry"]
    found = poetry["group"]["packages"]["dependencies"]
    return {name: Path(place["path"]) for name, place in found.items()}


def _project(folder: Path) -> dict[str, Any]:
    content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(content["project"])


def _core_requirement(folder: Path) -> str:
    """Return which versions of reid-core a method accepts, as ``reid-core>=0.1,<0.2``."""
    found: list[str] = _project(folder)["dependencies"]
    return next(text for text in found if Requirement(text).name == "reid-core")


def _next_version(current: Version, rule: str) -> Version:
    major, minor, patch = current.major, current.minor, current.micro
    if rule in _RULES:
        numbers = {
            "major": (major + 1, 0, 0),
            "minor": (major, minor + 1, 0),
            "patch": (major, minor, patch + 1),
        }
        return Version(".".join(map(str, numbers[rule])))
    try:
        version = Version(rule)
    except InvalidVersion:
        version = None
    if version is None or not re.fullmatch(r"\d+\.\d+\.\d+", rule) or version < current:
        raise ReleaseError(
            f"{rule!r} is no release: choose from {', '.join(_RULES)}, or say a version as "
            f"1.2.3 that is not before {current}"
        )
    return version


def _dated(changelog: Path, version: Version, today: datetime.date) -> str:
    """Return a changelog whose unreleased entries are those of ``version``."""
    text = changelog.read_text(encoding="utf-8")
    section = _UNRELEASED.search(text)
    lines = section["body"].splitlines() if section else []
    if not any(line.strip() and not line.startswith("#") for line in lines):
        raise ReleaseError(f"{changelog} says nothing under Unreleased")
    if re.search(rf"^## {re.escape(str(version))}(\s|$)", text, flags=re.MULTILINE):
        raise ReleaseError(f"{changelog} has a section {version} already")
    return text.replace("## Unreleased\n", f"## Unreleased\n\n## {version} - {today:%Y-%m-%d}\n", 1)


def _check_ranges(
    version: Version, accepted: Mapping[str, str], folders: Mapping[str, Path]
) -> None:
    """Check that all methods accept a new reid-core; otherwise say what their ranges need.

    Raises:
        ReleaseError: When one does not.
    """
    refusing = [
        name for name, text in accepted.items() if version not in Requirement(text).specifier
    ]
    if not refusing:
        return
    floor = f"{version.major}.{version.minor}"
    below = f"{version.major}.{version.minor + 1}" if version.major == 0 else f"{version.major + 1}"
    lines = [f"reid-core {version} is outside of what these accept:"]
    for name in refusing:
        bounds = Requirement(accepted[name]).specifier
        oldest = next((str(one) for one in bounds if one.operator == ">="), f">={floor}")
        lines.append(
            f"  {folders[name].as_posix()}/pyproject.toml: {accepted[name]} "
            f'-> "reid-core{oldest},<{below}" if it goes with both, '
            f'"reid-core>={floor},<{below}" if it needs the new one'
        )
    lines.append(
        "Change them, each with a line in its changelog; where one needs the new reid-core, also "
        f'version = "{version}" in the pyproject.toml of reid-core. Run nox -s tests '
        f"tests_oldest_core, commit, and then: nox -s release -- core {version}"
    )
    raise ReleaseError("\n".join(lines))


def _notes(
    name: str, current: str, rule: str, tags: Sequence[str], accepted: str | None
) -> tuple[str, ...]:
    """Return what is no error, but easily overlooked."""
    notes = []
    if rule in _RULES and f"{name}-v{current}" not in tags:
        notes.append(f"Note: {name} {current}, which was there before, has never been released.")
    if accepted is not None:
        cores = [Version(tag[11:]) for tag in tags if re.fullmatch(r"reid-core-v\d+(\.\d+)*", tag)]
        if not any(core in Requirement(accepted).specifier for core in cores):
            notes.append(
                f"Note: it needs {accepted}, and no such reid-core has been released: release core "
                "before this is uploaded."
            )
    return tuple(notes)


def _run(*command: str) -> None:
    """Run a program that says itself what is wrong.

    Raises:
        ReleaseError: When it fails.
    """
    if subprocess.run(command).returncode:
        raise ReleaseError(f"{' '.join(command)} failed; nothing was changed")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.rstrip()


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{main(sys.argv[1:])}\n")
    except ReleaseError as problem:
        sys.exit(f"no release: {problem}")
    except KeyboardInterrupt:
        sys.exit("no release: interrupted; nothing was changed")
