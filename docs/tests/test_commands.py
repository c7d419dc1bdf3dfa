"""Every command and every Python block of README.md and docs/*.md runs, on tiny synthetic data.

The blocks below one heading of level 2 run in order in a folder of their own.
``substitutions.toml`` says what is changed before they run, and which commands are checked without
being run, and why.
"""

import csv
import functools
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import metadata
from pathlib import Path

import pytest
from fenced_blocks import read_commands, read_sections
from running import call, console_scripts, parse_only, run_installed_command, run_python

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SECTIONS = {section.name: section for page in PAGES for section in read_sections(ROOT, page)}
RUNNABLE = [name for name, section in SECTIONS.items() if section.blocks]
TABLE = tomllib.loads((Path(__file__).parent / "substitutions.toml").read_text(encoding="utf-8"))
SCRIPTS = console_scripts()
USED = {"checked": set(), "replace": set()}

# A section waits for those that were begun before it.
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return a function that puts synthetic data sets below a folder; each is drawn once."""
    store, lock = tmp_path_factory.mktemp("drawn"), threading.Lock()

    def put(layout, folder):
        with lock:
            if not (store / layout).exists():
                args = ["synthesize", layout, layout, "--size", "tiny"]
                if "deskpro-train" in SCRIPTS and layout == "prcc":
                    args += ["--annotations", str(store / "annotations")]
                must(
                    store,
                    ["reid-data", *args],
                    call(store, run_installed_command, "reid-data", args),
                )
                for path in store.glob(f"{layout}/RegDB/idx/*_*_*.txt"):
                    if path.stem.rpartition("_")[2] not in ("1", "2"):
                        path.unlink()  # a copy may hold some of the ten divisions
        shutil.copytree(store / layout, folder, dirs_exist_ok=True)
        if layout == "prcc" and (store / "annotations").exists():
            shutil.copytree(store / "annotations/parsing", folder.parent / "LABEL_MAPS")

    return put


@pytest.fixture(scope="session")
def outcomes(request, tmp_path_factory, data):
    """Return, for each section that was chosen, what will come of it; two run at a time."""
    folder = tmp_path_factory.mktemp("docs")
    changes = {"REID_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        for name, value in {**changes, "OMP_WAIT_POLICY": "PASSIVE"}.items():
            patch.setenv(name, value)
        names = [
            item.callspec.params.get("name")
            for item in request.session.items
            if hasattr(item, "callspec")
        ]
        # The longest first, so that none is left over at the end.
        ordered = sorted(filter(None, names), key=count_commands, reverse=True)
        places = {name: folder / re.sub(r"\W+", "-", name) for name in ordered}
        yield {
            name: pool.submit(run_section, SECTIONS[name], places[name], data) for name in ordered
        }


@pytest.mark.parametrize("name", RUNNABLE)
def test_section_runs(name, outcomes):
    outcomes[name].result()


def test_substitutions_are_needed(request):
    chosen = {
        item.callspec.params["name"] for item in request.session.items if hasattr(item, "callspec")
    }
    if chosen != set(RUNNABLE):
        pytest.skip("only some sections were run")
    assert set(TABLE["sections"]) <= set(SECTIONS)
    assert set(TABLE["checked"]) == USED["checked"]
    assert set(TABLE["replace"]) == USED["replace"]


def count_commands(name):
    """Return how many lines of commands a section has."""
    blocks = SECTIONS[name].blocks
    return sum(block.text.count("\n") for block in blocks if block.kind == "shell")


def run_section(section, folder, data):
    """Run the blocks of a section in order in a new folder."""
    folder.mkdir()
    own = TABLE["sections"].get(section.name, {})
    for layout in own.get("data", ()):
        data(layout, folder / "ROOT")
    if "photos" in own:
        data(own["photos"], folder / "drawn")
        (drawn,) = (path for path in (folder / "drawn").iterdir() if path.is_dir())
        drawn.rename(folder / "photos")
    for name, layout in own.get("table", {}).items():
        write_table(folder / name, layout, folder / "ROOT")
    for line in own.get("before", ()):
        run_command(folder, section.name, line.split())
    for block in section.blocks:
        place = f"{section.page}:{block.line}"
        if block.kind == "file":
            (folder / block.name).write_text(replaced(block.text), encoding="utf-8")
        elif block.kind == "python":
            path = folder / f"block_{block.line}.py"
            path.write_text(replaced(block.text), encoding="utf-8")
            must(folder, [place], call(folder, run_python, path.name))
        elif block.kind == "shell":
            for words in read_commands(replaced(block.text)):
                run_command(folder, place, words)


def write_table(path, layout, root):
    """Write the labels of the test images of a data set below ROOT."""
    from reid_core.data import load_dataset

    dataset = load_dataset(layout, root)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "pid", "camid", "clothes_id", "split"])
        for split in ("query", "gallery"):
            for sample in dataset.splits[split]:
                labels = (sample.pid, sample.camid, sample.clothes_id)
                table.writerow([sample.path.resolve(), *labels, split])


def replaced(text):
    """Return the text with the replacements of the table."""
    for old, new in TABLE["replace"].items():
        if old in text:
            USED["replace"].add(old)
            text = text.replace(old, new)
    return text


def run_command(folder, place, words):
    """Run a command, or check it where the table says that it is not run."""
    program = " ".join(words[:3]) if words[:2] == ["python", "-m"] else words[0]
    if program == "python" and words[1] in TABLE["short"]:
        args = [*words[2:], *TABLE["short"][words[1]].split()]
        return must(folder, [place, *words], call(folder, run_python, str(ROOT / words[1]), args))
    if program == "python" and words[1].startswith("benchmarks/"):
        program = "python benchmarks/"
    if program in SCRIPTS:
        args = [*words[1:], *TABLE["short"].get(program, "").split()]
        return must(folder, [place, *words], call(folder, run_installed_command, program, args))
    assert program in TABLE["checked"], f"{place}: {words}: this test does not know {program}"
    USED["checked"].add(program)
    rest = words[len(program.split()) :] if program != "python benchmarks/" else words[1:]
    return CHECKS[program](folder, place, rest)


def must(folder, command, ended):
    """Fail with all that was printed where the status is not 0."""
    status, printed = ended
    if status:
        raise AssertionError(
            f"{' '.join(map(str, command))}\nin {folder}: status {status}\n{printed}"
        )


def check_torchrun(folder, place, args):
    """Parse torchrun's own options, and run what it starts in one process."""
    from torch.distributed.run import get_args_parser

    found = get_args_parser().parse_args(args)
    assert found.no_python, f"{place}: our commands are no Python files: --no-python"
    run_command(folder, place, [found.training_script, *found.training_script_args])


def check_pip(folder, place, args):
    """Check that what is installed is ours, or a tool, and that its extras exist."""
    assert args[0] == "install", place
    for word in args[1:]:
        name, _, extra = word.rstrip("]").partition("[")
        if name.startswith("-"):
            assert name in ("-e", "--find-links"), f"{place}: {word}"
        elif (ROOT / name).is_dir():
            assert (ROOT / name / "pyproject.toml").is_file(), f"{place}: {word}"
        elif name != "nox":
            known = metadata(name)
            assert not extra or extra in known.get_all("Provides-Extra"), f"{place}: {word}"


def check_nox(folder, place, args):
    """Check the sessions, and parse what is handed on to the benchmarks."""
    own, options = args, []
    if "--" in args:
        own, options = args[: args.index("--")], args[args.index("--") + 1 :]
    assert own[0] == "-s", f"{place}: {args}"
    unknown = set(own[1:]) - sessions()
    assert not unknown, f"{place}: no nox session {unknown}"
    (name,) = own[1:]
    kind, _, which = name.partition("-")
    if (ROOT / f"benchmarks/{which}.py").is_file():
        check_script(folder, place, [f"benchmarks/{which}.py", *options])
    elif kind == "benchmark":
        arguments = [which.replace("-", "_") or "all", *options, "--list-methods"]
        script = [sys.executable, str(ROOT / "benchmarks/run.py"), *arguments]
        done = subprocess.run(script, cwd=folder, capture_output=True, text=True)
        must(folder, [place, *arguments], (done.returncode, done.stdout + done.stderr))
        assert done.stdout.split() or "--report" in options, f"{place}: no method would run"
    else:
        assert not options, f"{place}: options of {name} are not checked"


@functools.cache
def sessions():
    """Return the names of all nox sessions, whether they run by default (``*``) or not (``-``)."""
    script = [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "--list", "--nocolor"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^[*-] ([\w-]+)", done.stdout, flags=re.MULTILINE))


def check_script(folder, place, args):
    """Parse the options of a measurement."""
    ended = call(folder, parse_only, str(ROOT / args[0]), args[1:])
    must(folder, [place, *args], ended)


CHECKS = {
    "torchrun": check_torchrun,
    "pip": check_pip,
    "python -m pip": check_pip,
    "nox": check_nox,
    "python -m nox": check_nox,
    "python benchmarks/": check_script,
}
