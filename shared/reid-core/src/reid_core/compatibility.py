"""Whether the installed reid-core is one that an installed method accepts. Imports no torch.

A method's commands ask this first, of whichever reid-core is there: it may be years older or newer
than the method and lack what the method imports. So ``checked_command`` stays as it is in all
versions, and a method's ``start.py`` imports nothing else of core.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from reid_core.errors import ReIDError, VersionMismatchError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["check_installed_core", "checked_command", "satisfies"]

# As installers write it, ``reid-core>=0.1,<0.2`` or with brackets. Not those with a marker after a
# semicolon: they are about extras.
_CORE = re.compile(r"reid[-_.]+core\s*\(?\s*(?P<specifier>[^();\[\]]+?)\s*\)?", re.IGNORECASE)
_CLAUSE = re.compile(r"(?P<operator>>=|<|==|~=)\s*(?P<release>\d+(?:\.\d+)*)(?P<any>\.\*)?")
_VERSION = re.compile(
    r"(?P<release>\d+(?:\.\d+)*)"
    r"(?P<before>[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview|dev)[-_.]?\d*.*?)?"
    r"(?P<after>[-_.]?(?:post|rev|r)[-_.]?\d*|-\d+)?"
    r"(?:\+.*)?",
    re.IGNORECASE,
)


def checked_command(distribution: str, place: str) -> Callable[..., None]:
    """Return a console script that runs ``place`` where the installed reid-core is accepted.

    Otherwise it prints one message and leaves with status 2, without importing the method's code.

    Args:
        distribution: The method's distribution, e.g. ``reid-aim``.
        place: The command's function as ``package.module:name``. It gets what the script gets:
            nothing from a console, a list of arguments from Python.
    """

    def command(*args: object) -> None:
        try:
            check_installed_core(distribution)
        except ReIDError as error:
            from reid_core.cli import fail

            fail(Path(sys.argv[0]).stem, str(error))
        resolve_name(place)(*args)

    return command


def check_installed_core(distribution: str) -> None:
    """Compare the installed reid-core with what a method's installed metadata asks for.

    Editable installs count as what they were when they were installed. Where one of the two has no
    metadata (sources on ``PYTHONPATH``) or damaged ones, or the requirement cannot be read, nothing
    is refused.

    Args:
        distribution: The method's distribution, e.g. ``reid-aim``.

    Raises:
        VersionMismatchError: When the method does not accept that reid-core.
    """
    from importlib import metadata

    try:
        method, core = metadata.distribution(distribution), metadata.distribution("reid-core")
    except metadata.PackageNotFoundError:
        return
    if "Version" not in core.metadata:  # an uninstallation was interrupted
        return
    for requirement in method.requires or ():
        found = _CORE.fullmatch(requirement.strip())
        if found is not None and satisfies(core.version, found["specifier"]) is False:
            accepted = f"reid-core{found['specifier']}".replace(" ", "")
            raise VersionMismatchError(
                f"{distribution} {method.version} needs {accepted}, but reid-core {core.version} "
                f"is installed ({core.locate_file('')}). {_advice(distribution, method, core)}"
                f'pip install "{accepted}", or take the newest of both that go together: '
                f"pip install --upgrade {distribution}"
            )


def satisfies(version: str, specifier: str) -> bool | None:
    """Tell whether a version is in a range, as PEP 440 has it.

    Args:
        version: For example ``0.1.3`` or ``0.2.0rc1``.
        specifier: Clauses with ``>=``, ``<``, ``==`` (also ``==0.1.*``) and ``~=``, joined by
            commas, e.g. ``>=0.1,<0.2``.

    Returns:
        The answer; None where one of the two cannot be read.
    """
    parts = _VERSION.fullmatch(version.strip())
    clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in specifier.split(",")]
    if parts is None:
        return None
    release = _numbers(parts["release"])
    # Pre-releases come before the release of their numbers, post-releases after it.
    key = (release, -1 if parts["before"] else 1 if parts["after"] else 0)
    answers = []
    for clause in clauses:
        if clause is None or (clause["any"] and clause["operator"] != "=="):
            return None
        given = clause["release"].split(".")
        bound = _numbers(clause["release"])
        if clause["operator"] == "<":
            # A pre-release of the bound is not below it: 0.2.0rc1 has what breaks in 0.2.
            answers.append(release < bound)
        elif clause["operator"] == ">=":
            answers.append(key >= (bound, 0))
        elif clause["any"]:
            answers.append(_begins(release, given))
        elif clause["operator"] == "==":
            answers.append(key == (bound, 0))
        elif len(given) < 2:
            return None
        else:
            answers.append(key >= (bound, 0) and _begins(release, given[:-1]))
    return all(answers)


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers of ``0.1.0`` without zeros at the end: 0.1 and 0.1.0 are one version."""
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _begins(release: tuple[int, ...], start: list[str]) -> bool:
    padded = release + (0,) * len(start)
    return padded[: len(start)] == tuple(int(part) for part in start)


def _advice(distribution: str, method: Distribution, core: Distribution) -> str:
    """Return how to begin: what was installed from a working tree is installed from it again."""
    folders = [_editable_folder(found) for found in (core, method)]
    if None in folders:
        return "Install one that it accepts: "
    paths = " ".join(f'-e "{folder}"' for folder in folders)
    return (
        f"Both are installed from sources as they were then; install them again: "
        f"pip install {paths}. Should they still not go together: "
    )


def _editable_folder(distribution: Distribution) -> str | None:
    """Return where an editable install has its sources; None for any other (see PEP 610)."""
    import json
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable", False)
        return url2pathname(urlsplit(origin["url"]).path) if editable else None
    except (ValueError, KeyError, AttributeError):
        return None
