# /// script
# dependencies = ["nox[uv]>=2026.8"]
# ///
"""Every task of the workspace. `nox -l` lists them; the first two are `nox -s demo` and `tests`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.version import Version

nox.needs_version = ">=2026.4.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = "CI" in os.environ
nox.options.sessions = ["lint", "typecheck", "imports", "tests"]

ROOT = Path(__file__).parent
CORE = Path("shared/reid-core")
METHODS = ("aim", "cssc", "agw", "iics", "deskpro")
PYTHONS = ("3.11", "3.12", "3.13")
PACKAGES = {"core": CORE, **{name: Path("packages", name) for name in METHODS}}
WORKSPACE = nox.project.load_toml("pyproject.toml")
SOURCES = [f"{path.as_posix()}/src" for path in PACKAGES.values()]
DATASETS = tuple(nox.project.load_toml("benchmarks/matrix.toml")["datasets"])
BENCHMARKED = ROOT / ".nox" / "methods"
MEASUREMENTS = ("evaluation", "reranking", "clustering")
# A short training, for methods whose length is not that of one run of epochs.
SHORT = {"iics": ("--cycles", "1"), "deskpro": ("--epochs", "1", "--teacher-epochs", "1")}


def group(name: str) -> list[str]:
    """Return the requirements of one tool group of the root pyproject."""
    return list(nox.project.dependency_groups(WORKSPACE, name))


def editable(*names: str) -> list[str]:
    """Return install arguments: core and methods in ONE call, so that the index is not asked."""
    paths = dict.fromkeys([CORE, *(PACKAGES[name] for name in names)])
    return [arg for path in paths for arg in ("-e", path.as_posix())]


@nox.session(python=False)
def dev(session: nox.Session) -> None:
    """Make .venv with every package editable and every tool (no Poetry needed)."""
    session.run("uv", "venv", "--allow-existing", ".venv", external=True)
    install = ("uv", "pip", "install", "--python", ".venv")
    session.run(*install, *editable(*METHODS), *group("dev"), external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Train and evaluate AIM on synthetic people; about five minutes on two CPU cores."""
    session.install(*editable("aim"))
    args = session.posargs or ["--data", "synthetic", "--preset", "demo"]
    session.run("aim-train", *args)


@nox.session(tags=["test"])
@nox.parametrize("package", list(PACKAGES))
def tests(session: nox.Session, package: str) -> None:
    """Run a package's tests: unit, parity with the official numbers, installed commands."""
    session.install(*editable(package), *group("test"), *group("export"))
    run_pytest(session, f"{PACKAGES[package].as_posix()}/tests")


def run_pytest(session: nox.Session, *args: str) -> None:
    """Run tests with the threads of the commands: see reid_core.cli.run_command."""
    session.run("pytest", *args, *session.posargs, env={"OMP_WAIT_POLICY": "PASSIVE"})


def run_quick_tests(session: nox.Session, package: str) -> None:
    """Run what finds a name or a number that another version of a library lacks or changed."""
    tests = f"{PACKAGES[package].as_posix()}/tests"
    run_pytest(session, "-m", "not slow and not gpu", f"{tests}/unit", f"{tests}/parity")


@nox.session(python=PYTHONS[0], reuse_venv=False, tags=["test"], default=False)
@nox.parametrize("package", list(PACKAGES))
def tests_lowest(session: nox.Session, package: str) -> None:
    """Run a package's quick tests with the lowest versions that it and core declare."""
    if session.venv_backend != "uv":
        session.error("only uv chooses the lowest versions: pip install 'nox[uv]'")
    lowest = ("--resolution", "lowest-direct")
    session.install(*lowest, *editable(package), *group("test"), *group("export"))
    run_quick_tests(session, package)


@nox.session(reuse_venv=False, tags=["test"], default=False)
@nox.parametrize("package", list(METHODS))
def tests_oldest_core(session: nox.Session, package: str) -> None:
    """Run a method's quick tests with the oldest released reid-core that it accepts."""
    path = PACKAGES[package]
    project = nox.project.load_toml(path / "pyproject.toml")["project"]
    needed = next(text for text in project["dependencies"] if text.startswith("reid-core"))
    tags = subprocess.check_output(["git", "tag", "--list", "reid-core-v*"], text=True).split()
    released = [Version(tag.removeprefix("reid-core-v")) for tag in tags]
    fitting = sorted(Requirement(needed).specifier.filter(released))
    if fitting:
        source = f"git+{ROOT.as_uri()}@reid-core-v{fitting[0]}#subdirectory={CORE.as_posix()}"
        core = [f"reid-core @ {source}"]
    else:
        session.warn(
            f"reid-{package} needs {needed}, and no tag reid-core-v* is in that range (git fetch "
            "--tags gets what a shallow clone lacks): the oldest is the workspace's own"
        )
        core = editable()
    session.install(*core, "-e", path.as_posix(), *group("test"), *group("export"))
    run_quick_tests(session, package)


@nox.session(tags=["test"], default=False)
def docs(session: nox.Session) -> None:
    """Run every command and every Python block of README.md and docs/, on tiny synthetic data."""
    session.install(*editable(*METHODS), *group("test"), *group("export"), "nox[uv]")
    session.run("pytest", "docs/tests", *session.posargs, env={"OMP_WAIT_POLICY": "PASSIVE"})


@nox.session(tags=["test"], default=False)
def gpu(session: nox.Session) -> None:
    """Run the tests that need a CUDA device."""
    session.install(*editable(*METHODS), *group("test"), *group("export"))
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session(tags=["static"])
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` mends what can be mended."""
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session(tags=["static"])
def typecheck(session: nox.Session) -> None:
    """Check the types of all sources, strictly."""
    session.install(*editable(*METHODS), *group("typing"))
    session.run("mypy", *SOURCES, "benchmarks", "tools")


@nox.session(tags=["static"])
def imports(session: nox.Session) -> None:
    """Check that methods never import each other and core imports no method."""
    session.install(*editable(*METHODS), *group("typing"))
    session.run("lint-imports")


@nox.session(tags=["dist"], default=False)
def build(session: nox.Session) -> None:
    """Build every package's sdist and wheel into dist/ and check their metadata."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.install(*group("dist"))
    for path in PACKAGES.values():
        session.run("python", "-m", "build", "--installer", "uv", "--outdir", "dist", str(path))
    session.run("twine", "check", "--strict", *map(str, sorted((ROOT / "dist").iterdir())))


@nox.session(requires=["build"], tags=["dist"], reuse_venv=False, default=False)
@nox.parametrize("package", list(METHODS))
def wheel(session: nox.Session, package: str) -> None:
    """Install a method from dist/ alone into an empty environment and train a few steps."""
    try_wheel(session, package)


@nox.session(python=PYTHONS, requires=["build"], reuse_venv=False, default=False)
@nox.parametrize("package", list(METHODS))
def wheels(session: nox.Session, package: str) -> None:
    """Do what `wheel` does on every supported Python, or on one: `nox -s wheels-3.12`."""
    try_wheel(session, package)


def try_wheel(session: nox.Session, package: str) -> None:
    """Install a method from dist/ and nothing beside it, ask for help, and train."""
    # uv's cache knows a wheel by its folder and version, and would install what an earlier build
    # of the same version left there.
    fresh = [f"--refresh-package=reid-{name}" for name in PACKAGES]
    cached = fresh if session.venv_backend == "uv" else []
    session.install(*cached, "--find-links", "dist", f"reid-{package}")
    session.chdir(session.create_tmp())
    run = Path("wheel-run")
    shutil.rmtree(run, ignore_errors=True)
    session.run(f"{package}-train", "--help", silent=True)
    args = ("--data", "synthetic", "--preset", "demo", "--data.synthetic-size", "tiny")
    short = SHORT.get(package, ("--epochs", "1"))
    session.run(f"{package}-train", *args, *short, "--out", str(run))


@nox.session(python=False, tags=["dist"], default=False)
def lock(session: nox.Session) -> None:
    """Check that poetry.lock fits every pyproject (`poetry check` alone sees only the root's)."""
    before = (ROOT / "poetry.lock").read_bytes()
    session.run("poetry", "lock", external=True)
    if (ROOT / "poetry.lock").read_bytes() != before:
        session.error("poetry.lock was out of date; commit the refreshed file")


def make_environment(session: nox.Session, package: str) -> str:
    """Make or renew an environment with core and one package, for all sessions; return Python."""
    folder = BENCHMARKED / package
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    install: tuple[str, ...] = (python, "-m", "pip", "install", "--quiet")
    if session.venv_backend == "uv":
        same = str(shutil.which("python", path=session.bin))
        make = ("uv", "venv", "--quiet", "--allow-existing", "--python", same)
        session.run_install(*make, str(folder), external=True)
        install = ("uv", "pip", "install", "--quiet", "--python", python)
    else:
        session.run_install("python", "-m", "venv", str(folder))
    session.run_install(*install, *editable(package), external=True)
    return python


def benchmark(session: nox.Session, dataset: str) -> None:
    """Run every method that has a row for the data set, each in its own environment."""
    run = (make_environment(session, "core"), "benchmarks/run.py", dataset, *session.posargs)
    found = session.run(*run, "--list-methods", silent=True, log=False, external=True)
    for method in str(found or "").split():
        if method in METHODS:
            make_environment(session, method)
    places = ("--environments", str(BENCHMARKED), "--parent", str(os.getpid()))
    # On Ctrl-C the trainings get the time to leave; nox would end the runner after half a second.
    session.run(*run, *places, external=True, interrupt_timeout=30, terminate_timeout=30)


for _dataset in (*DATASETS, "all"):
    nox.session(
        lambda session, dataset=_dataset: benchmark(session, dataset),
        name="benchmark" if _dataset == "all" else f"benchmark-{_dataset.replace('_', '-')}",
        tags=["benchmark"],
        default=False,
    )


def measurement(session: nox.Session, name: str) -> None:
    """Measure what evaluations cost; takes the options of the script."""
    session.install(*editable())
    session.run("python", f"benchmarks/{name}.py", *session.posargs)


for _name in MEASUREMENTS:
    nox.session(
        lambda session, name=_name: measurement(session, name),
        name=f"benchmark-{_name}",
        tags=["benchmark"],
        default=False,
    )


@nox.session(python=False, default=False)
def release(session: nox.Session) -> None:
    """Bump a package, date its changelog, commit and tag: `nox -s release -- aim minor`."""
    # With nox's own Python: the script needs packaging, as this file does. On Ctrl-C it gets the
    # time to take back what it did.
    script = (sys.executable, "tools/release.py", *session.posargs)
    session.run(*script, external=True, interrupt_timeout=30, terminate_timeout=30)
