"""What a method asks of reid-core's version, and that every installed command asks it first."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from reid_core.compatibility import check_installed_core, checked_command, satisfies
from reid_core.errors import VersionMismatchError

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("version", "specifier", "answer"),
    [
        ("0.1.0", ">=0.1,<0.2", True),
        ("0.1", ">=0.1.0,<0.2", True),
        ("0.1.10", ">=0.1.9,<0.2", True),
        ("0.2.0", ">=0.1,<0.2", False),
        ("0.2", ">=0.1,<0.2.0", False),
        ("1.0", ">=0.1,<0.2", False),
        ("0.0.9", ">=0.1,<0.2", False),
        ("0.10.0", ">=0.9,<0.11", True),
        ("0.2.0rc1", ">=0.1,<0.2", False),
        ("0.1.0rc1", ">=0.1,<0.2", False),
        ("0.1.0.dev3", ">=0.1", False),
        ("0.1.1.dev3", ">=0.1", True),
        ("0.1.0.post1", ">=0.1,<0.2", True),
        ("0.1.0+cpu", "==0.1", True),
        ("0.1.0.post1", "==0.1", False),
        ("0.1.0", "== 0.1.0", True),
        ("0.1.0", "==0.1.*", True),
        ("0.1", "==0.1.0.*", True),
        ("0.11", "==0.1.*", False),
        ("1.4.9", "~=1.4.2", True),
        ("1.4.1", "~=1.4.2", False),
        ("1.5", "~=1.4.2", False),
        ("1.9", "~=1.4", True),
        ("2.0", "~=1.4", False),
    ],
)
def test_ranges(version, specifier, answer):
    assert satisfies(version, specifier) is answer


def test_ranges_are_those_of_pep_440():
    specifiers = pytest.importorskip("packaging.specifiers")
    versions = ["0", "0.1", "0.1.0", "0.1.1", "0.2.dev1", "0.2a1", "0.2rc2", "0.2", "0.2.post1"]
    versions += ["0.2+local.1", "0.2.1", "0.10", "1", "1.0.0", "1.1", "2.0.0"]
    bounds = ["0.1", "0.1.0", "0.2", "0.2.1", "1.0"]
    clauses = [sign + bound for sign in (">=", "<", "==", "~=") for bound in bounds]
    clauses += [f"=={bound}.*" for bound in bounds]
    for clause in clauses:
        expected = specifiers.SpecifierSet(clause, prereleases=True)
        for version in versions:
            assert satisfies(version, clause) is expected.contains(version), (version, clause)


@pytest.mark.parametrize(
    ("version", "specifier"),
    [
        ("0.1", ">=0.1,!=0.1.3"),
        ("0.1", ">=0.1rc1"),
        ("0.1", "~=1"),
        ("0.1", ">=0.1.*"),
        ("0.1", "@ file:///somewhere"),
        ("0.1", ""),
        ("unknown", ">=0.1"),
    ],
)
def test_what_cannot_be_read_is_not_judged(version, specifier):
    assert satisfies(version, specifier) is None


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that leaves the metadata of an installed distribution."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def write(name, version, requires=(), sources=None):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if sources is not None:
            origin = {"url": sources.as_uri(), "dir_info": {"editable": True}}
            (folder / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")

    return write


EXTRA = 'reid-core[export] ; extra == "export"'


@pytest.mark.parametrize(
    "requirement",
    [
        "reid-core (>=0.1,<0.2)",
        "reid-core>=0.1,<0.2",
        "reid_core >=0.1, <0.2",
        "Reid.Core (~=0.1.0)",
    ],
)
def test_a_core_outside_the_range_is_refused(install, requirement):
    install("reid-core", "0.3.0")
    install("reid-aim", "0.1.4", [EXTRA, requirement])
    with pytest.raises(VersionMismatchError) as refused:
        check_installed_core("reid-aim")
    accepted = "~=0.1.0" if "~=" in requirement else ">=0.1,<0.2"
    message = str(refused.value)
    assert f"reid-aim 0.1.4 needs reid-core{accepted}, but reid-core 0.3.0 is installed" in message
    assert f'pip install "reid-core{accepted}"' in message
    assert "pip install --upgrade reid-aim" in message
    assert "-e" not in message.split()


@pytest.mark.parametrize(
    "requires",
    [
        [EXTRA, "reid-core (>=0.1,<0.4)"],
        ["reid-core"],
        ["reid-core @ file:///somewhere"],
        ['reid-core<0.2 ; python_version < "3"'],
        ["reid-core-extras<0.2"],
        [],
    ],
)
def test_nothing_is_refused_without_a_readable_range_that_excludes_it(install, requires):
    install("reid-core", "0.3.0")
    install("reid-aim", "0.1.4", requires)
    check_installed_core("reid-aim")


def test_sources_without_metadata_are_not_judged(install):
    check_installed_core("reid-aim")
    install("reid-aim", "0.1.4", ["reid-core (<0.2)"])
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("reid-core")
    check_installed_core("reid-aim")


@pytest.mark.filterwarnings("error")
def test_damaged_metadata_are_not_judged(install, tmp_path):
    (tmp_path / "reid_core-0.3.0.dist-info").mkdir()
    install("reid-aim", "0.1.4", ["reid-core (<0.2)"])
    check_installed_core("reid-aim")


def test_editable_installs_are_renewed_from_their_sources(install, tmp_path):
    core, aim = tmp_path / "my tree/core", tmp_path / "my tree/aim"
    install("reid-core", "0.3.0", sources=core)
    install("reid-aim", "0.1.4", ["reid-core (<0.2)"], sources=aim)
    with pytest.raises(VersionMismatchError) as refused:
        check_installed_core("reid-aim")
    assert f'pip install -e "{core}" -e "{aim}"' in str(refused.value)


def test_a_refused_command_leaves_with_one_message(install, monkeypatch, capsys):
    install("reid-core", "0.3.0")
    install("reid-aim", "0.1.4", ["reid-core (<0.2)"])
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/aim-train", "--help"])
    with pytest.raises(SystemExit) as left:
        checked_command("reid-aim", "no_such_package.cli:train")()
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("aim-train: error: reid-aim 0.1.4 needs reid-core<0.2, ")
    assert printed.err.count("\n") == 1


def test_every_command_of_a_method_asks_first_and_imports_nothing_else():
    """A core that lacks what a method imports must be refused before the method is imported."""
    folders = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
    assert len(folders) >= 5
    for folder in folders:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        package = f"reid_{folder.name}"
        done = subprocess.run(
            [
                *(sys.executable, "-c"),
                f"import sys, {package}.start as start; print([start.__all__, [name for name in "
                "sys.modules if name.startswith('reid_')]])",
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder / "src")},
        )
        assert done.returncode == 0, done.stderr
        commands, imported = ast.literal_eval(done.stdout)
        scripts = sorted(project["scripts"].values())
        assert scripts == sorted(f"{package}.start:{name}" for name in commands)
        needed = {"reid_core", "reid_core.compatibility", "reid_core.errors"}
        assert set(imported) == {*needed, package, f"{package}.start"}
        start = (folder / "src" / package / "start.py").read_text(encoding="utf-8")
        for name in commands:
            made = f'{name} = checked_command("{project["name"]}", "{package}.cli:{name}")'
            assert made in start.splitlines()
