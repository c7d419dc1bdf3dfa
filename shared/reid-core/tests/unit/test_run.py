"""Runs: the loop, resuming, killing, guards. Bit-equality is always meant literally."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core.config import RunConfig
from reid_core.engine import Run, read_checkpoint
from reid_core.engine import run as run_module
from reid_core.errors import (
    CheckpointError,
    ConfigError,
    NonFiniteLossError,
    OutputError,
)

SCRIPT = Path(__file__).with_name("tiny_recipe.py")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def load_recipe():
    spec = importlib.util.spec_from_file_location("tiny_recipe", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_recipe"] = module
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Final states and records of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("uninterrupted")
    return SimpleNamespace(states=recipe.train(out), records=read_records(out))


@pytest.fixture
def run_process(start_script):
    """Run the recipe in a process of its own; return the exit code."""

    def run(**args) -> int:
        process = start_script(SCRIPT, **args)
        process.join(120)
        return process.exitcode

    return run


@pytest.fixture
def run_pair(start_pair):
    """Run the recipe in two processes, their files in one folder; return the exit codes."""

    def run(folder: Path, *, only=None, **args) -> list[int]:
        own = {
            rank: {
                "result": str(folder / f"result{rank}.pt"),
                "message": str(folder / f"message{rank}.txt"),
                **(only or {}).get(rank, {}),
            }
            for rank in range(2)
        }
        return start_pair(SCRIPT, out=str(folder / "run"), only=own, **args)

    return run


def read_records(out: Path) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record.pop("timing", None)
    return records


def assert_same(first, second, where="") -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert first == second, where


class Stopped(Exception):
    """Thrown into a run to stop it."""


def stop_at(stop):
    def on_step(epoch, step):
        if (epoch, step) == stop:
            raise Stopped

    return on_step


# --- the loop ---------------------------------------------------------------------------------


def test_run_leaves_its_files(tmp_path):
    out = tmp_path / "new" / "run"
    recipe.train(out)
    names = sorted(path.name for path in out.iterdir())
    events = [name for name in names if name.startswith("events.out.tfevents")]
    assert len(events) == 1
    others = {".lock", "config.json", "last.pt", "metrics.jsonl", "origin.json"}
    assert set(names) - set(events) == others
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["lr"] == 0.1


def test_records_hold_the_means_of_each_epoch(tmp_path):
    seen = {}

    def terms(epoch, step):
        seen.setdefault(epoch, []).append(float(epoch + step))
        return {"acc": float(epoch + step), "step": torch.tensor(float(step))}

    recipe.train(tmp_path, terms=terms)
    records = read_records(tmp_path)
    train = [record for record in records if record["kind"] == "train"]
    assert [record["epoch"] for record in train] == [0, 1, 2]
    assert [record["acc"] for record in train] == [np.mean(seen[epoch]) for epoch in range(3)]
    assert [record["step"] for record in train] == [2.0, 2.0, 2.0]
    # The rate of the epoch itself: the schedule steps after it.
    assert [record["lr_main"] for record in train] == pytest.approx([0.1, 0.01, 0.001])
    assert [record["lr_side"] for record in train] == [0.05] * 3
    evaluations = [record for record in records if record["kind"] == "eval"]
    assert [record["epoch"] for record in evaluations] == [1, 2]
    assert list(evaluations[0]["results"]) == ["toy/standard"]


@pytest.mark.parametrize(
    ("every", "expected"), [(0, [4]), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (9, [4])]
)
def test_evaluation_epochs(tmp_path, every, expected):
    settings = RunConfig(out=tmp_path, device="cpu", eval_every=every)
    with Run.start(settings, method="toy", version="1", config={}) as run:
        assert [epoch for epoch in range(5) if run.should_evaluate(epoch, 5)] == expected


def test_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = RunConfig(device="cpu")
    folders = []
    for _ in range(2):
        with Run.start(settings, method="toy", version="1", config={}, name="toy-ltcc") as run:
            folders.append(run.folder)
    assert folders == [Path("runs/toy-ltcc-1"), Path("runs/toy-ltcc-2")]


@POSIX
def test_default_folder_behind_a_dangling_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(OutputError, match="cannot write runs"):
        Run.start(RunConfig(device="cpu"), method="toy", version="1", config={})


def test_numeric_settings_are_taken_back(tmp_path):
    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32)
    settings = RunConfig(out=tmp_path, device="cpu", threads=2)
    with Run.start(settings, method="toy", version="1", config={}) as run:
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.allow_tf32
        assert run.precision == "fp32"
        with run.autocast():
            assert not torch.is_autocast_enabled("cpu")
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before


def test_same_seed_same_run_other_seed_other_run(tmp_path, uninterrupted):
    assert_same(recipe.train(tmp_path / "a"), uninterrupted.states)
    other = recipe.train(tmp_path / "b", seed=2)
    assert other["draws"] != uninterrupted.states["draws"]


def test_failure_closes_the_loader_and_frees_the_folder(tmp_path):
    loader = recipe.ToyLoader()
    with pytest.raises(Stopped):
        recipe.train(tmp_path, loader=loader, on_step=stop_at((1, 2)))
    assert loader.num_closed == 2
    recipe.train(tmp_path, resume=True)


def test_plain_progress_lines_name_all_terms(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reid_core.engine.progress.LINE_SECONDS", 0.0)
    recipe.train(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/3  batch 1/5  loss_main ")
    assert "waiting for data" in lines[0]
    assert lines[0].endswith("left")
    (summary,) = [line for line in lines if line.startswith("epoch 2/3  main ")]
    assert "side" in summary
    assert "lr  0.01  0.05" in summary


def test_progress_bar_on_a_terminal(tmp_path, monkeypatch):
    import io

    import rich.console

    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.get_console", lambda: console)
    recipe.train(tmp_path)
    assert "epoch 3/3" in screen.getvalue()
    assert "5/5" in screen.getvalue()


# --- stopping and resuming --------------------------------------------------------------------


@pytest.mark.parametrize("stop", [(0, 0), (0, 3), (1, 0), (1, 1), (2, 4)])
@pytest.mark.parametrize("checkpoint_steps", [0, 1, 2])
def test_resumed_run_equals_uninterrupted_run(tmp_path, uninterrupted, stop, checkpoint_steps):
    with pytest.raises(Stopped):
        recipe.train(tmp_path, on_step=stop_at(stop), checkpoint_steps=checkpoint_steps)
    states = recipe.train(tmp_path, resume=True, checkpoint_steps=checkpoint_steps)
    assert_same(states, uninterrupted.states)
    assert read_records(tmp_path) == uninterrupted.records


def test_run_may_be_stopped_many_times(tmp_path, uninterrupted):
    stops = [(epoch, step) for epoch in range(3) for step in range(0, 5, 2)]
    for number, stop in enumerate(stops):
        with pytest.raises(Stopped):
            recipe.train(tmp_path, resume=number > 0, on_step=stop_at(stop), checkpoint_steps=1)
    assert_same(recipe.train(tmp_path, resume=True), uninterrupted.states)
    assert read_records(tmp_path) == uninterrupted.records


def refuse_second_checkpoint(monkeypatch):
    """Stop a run when epoch 1 is logged but not saved."""
    save = run_module.save_checkpoint

    def fail(path, checkpoint):
        if checkpoint.epoch == 2:
            raise Stopped
        save(path, checkpoint)

    monkeypatch.setattr(run_module, "save_checkpoint", fail)


def test_stop_between_the_records_and_the_checkpoint(tmp_path, uninterrupted, monkeypatch):
    """What is logged but not saved is logged again, once."""
    refuse_second_checkpoint(monkeypatch)
    with pytest.raises(Stopped):
        recipe.train(tmp_path)
    monkeypatch.undo()
    assert len(read_records(tmp_path)) == 3
    assert_same(recipe.train(tmp_path, resume=True), uninterrupted.states)
    assert read_records(tmp_path) == uninterrupted.records


def test_draws_before_the_epochs_do_not_matter(tmp_path, uninterrupted):
    """A resumed run may prepare itself in another way, e.g. without building a cache."""
    with pytest.raises(Stopped):
        recipe.train(tmp_path, on_step=stop_at((1, 2)), checkpoint_steps=1)
    states = recipe.train(
        tmp_path, resume=True, before_epochs=lambda: (torch.rand(5), random.random())
    )
    assert_same(states, uninterrupted.states)


def test_work_before_the_first_batch_is_saved(tmp_path, uninterrupted):
    def work(run, epoch):
        if run.position.step == 0 and (epoch != 1 or not run.resumed):
            run.log("work", epoch, {"value": 2 * epoch})
            run.save()

    with pytest.raises(Stopped):
        recipe.train(tmp_path, on_step=stop_at((1, 0)), before_batches=work)
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert (checkpoint.epoch, checkpoint.step) == (1, 0)
    assert checkpoint.metrics_bytes == (tmp_path / "metrics.jsonl").stat().st_size
    assert_same(recipe.train(tmp_path, resume=True, before_batches=work), uninterrupted.states)
    records = read_records(tmp_path)
    found = [record for record in records if record["kind"] == "work"]
    assert found == [{"kind": "work", "epoch": epoch, "value": 2 * epoch} for epoch in range(3)]
    assert [record for record in records if record not in found] == uninterrupted.records


def test_finished_run_resumes_to_its_end(tmp_path, uninterrupted):
    recipe.train(tmp_path)
    assert_same(recipe.train(tmp_path, resume=True), uninterrupted.states)
    assert read_records(tmp_path) == uninterrupted.records


def test_more_epochs_than_planned(tmp_path):
    longer = recipe.train(tmp_path / "once", epochs=4, eval_every=1)
    recipe.train(tmp_path / "twice", epochs=3, eval_every=1)
    assert_same(recipe.train(tmp_path / "twice", resume=True, epochs=4, eval_every=1), longer)


@pytest.mark.parametrize("stop", [(1, 0), (1, 3), (2, 1)])
def test_run_that_begins_with_a_later_epoch(tmp_path, stop):
    expected = recipe.train(tmp_path / "once", first=1)
    out = tmp_path / "twice"
    with pytest.raises(Stopped):
        recipe.train(out, first=1, on_step=stop_at(stop), checkpoint_steps=2)
    assert_same(recipe.train(out, first=1, resume=True), expected)
    assert [item["epoch"] for item in read_records(out) if item["kind"] == "train"] == [1, 2]


def test_resumed_reports_where_it_goes_on(tmp_path):
    with pytest.raises(Stopped):
        recipe.train(tmp_path, on_step=stop_at((1, 3)), checkpoint_steps=2)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    settings = recipe.settings(tmp_path)
    with Run.start(settings, method="toy", version="1.0", config=values, resume=True) as run:
        assert run.resumed
        assert run.position == (1, 2)


def test_tensorboard_shows_each_epoch_once(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    refuse_second_checkpoint(monkeypatch)
    with pytest.raises(Stopped):
        recipe.train(tmp_path)
    monkeypatch.undo()
    recipe.train(tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("train/loss_main")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("eval/toy/standard/rank1")] == [2, 3]


@POSIX
@pytest.mark.parametrize("kill_at", [1, 4, 9, 15])
def test_killed_run_resumes_bit_equal(tmp_path, run_process, uninterrupted, kill_at):
    out, result = tmp_path / "run", tmp_path / "result.pt"
    args = {"out": str(out), "result": str(result), "checkpoint_steps": 2}
    assert run_process(**args, kill_at=kill_at) == -9
    assert run_process(**args, resume=True) == 0
    assert_same(torch.load(result), uninterrupted.states)
    assert read_records(out) == uninterrupted.records


@POSIX
@pytest.mark.parametrize("number", [1, 2, 5])
def test_killed_while_saving_resumes_bit_equal(tmp_path, run_process, uninterrupted, number):
    out, result = tmp_path / "run", tmp_path / "result.pt"
    args = {"out": str(out), "result": str(result), "checkpoint_steps": 2}
    assert run_process(**args, kill_while_saving=number) == -9
    assert (out / "last.pt").exists() == (number > 1)
    (leftover,) = out.glob("*.tmp")
    assert run_process(**args, resume=True) == 0
    assert_same(torch.load(result), uninterrupted.states)
    assert read_records(out) == uninterrupted.records
    assert not leftover.exists()


@POSIX
def test_killed_at_random_moments_resumes_bit_equal(tmp_path, start_script, uninterrupted):
    """Kills from outside, wherever the process is by then, until it gets through."""
    out, result = tmp_path / "run", tmp_path / "result.pt"
    rng = np.random.default_rng()
    num_kills = 0
    while not result.exists():
        resume = (out / "config.json").exists()
        process = start_script(
            SCRIPT,
            out=str(out),
            result=str(result),
            checkpoint_steps=1,
            resume=resume,
            seconds_per_step=0.03,
        )
        # Lives grow, so that the run ends at all on a slow machine.
        process.join(rng.uniform(0.1, 0.5) * 1.2**num_kills)
        process.kill()
        process.join()
        num_kills += 1
    assert_same(torch.load(result), uninterrupted.states)
    assert read_records(out) == uninterrupted.records


@POSIX
@pytest.mark.slow
def test_resume_in_a_cold_interpreter(tmp_path, uninterrupted):
    """Whatever is imported late in a new interpreter must not draw from the generators."""
    out, result = tmp_path / "run", tmp_path / "result.pt"
    args = {"out": str(out), "result": str(result), "checkpoint_steps": 1}
    codes = []
    for own in ({"kill_at": 9}, {"resume": True}):
        code = (
            f"import runpy; runpy.run_path({str(SCRIPT)!r}, {{'ARGS': {args | own}}}, '__main__')"
        )
        codes.append(subprocess.run([sys.executable, "-c", code], check=False).returncode)
    assert codes == [-9, 0]
    assert_same(torch.load(result), uninterrupted.states)
    assert read_records(out) == uninterrupted.records


# --- guards -----------------------------------------------------------------------------------


def fill_run(out: Path) -> None:
    recipe.train(out, epochs=1)


@pytest.mark.parametrize(
    ("prepare", "changes", "error", "message"),
    [
        (fill_run, {}, ConfigError, r"is not empty .*--resume .*another folder with --out"),
        (
            lambda out: (out / "notes.txt").write_text("mine"),
            {},
            ConfigError,
            r"is not empty \(notes\.txt\); choose another folder with --out$",
        ),
        (lambda out: None, {"resume": True}, CheckpointError, "holds no run .*--resume takes"),
        (Path.rmdir, {"resume": True}, CheckpointError, "there is no run folder"),
        (
            fill_run,
            {"resume": True, "config": {"lr": 0.2}},
            CheckpointError,
            r"other settings: lr was 0\.1, is 0\.2\. .*new run with another --out",
        ),
        (
            fill_run,
            {"resume": True, "config": {"run": {"seed": 1}, "new": 1}},
            CheckpointError,
            "other settings: new was 'not set', is 1",
        ),
        (
            fill_run,
            {"resume": True, "num_classes": 5},
            CheckpointError,
            r"net: classifier\.weight is \(3, 8\) in the checkpoint, \(5, 8\) here; "
            r"net: classifier\.bias .*number of identities",
        ),
        (
            lambda out: (fill_run(out), (out / "last.pt").write_bytes(b"PK\3\4 half")),
            {"resume": True},
            CheckpointError,
            r"last\.pt \(9 bytes\) is damaged",
        ),
    ],
)
def test_bad_start(tmp_path, prepare, changes, error, message):
    out = tmp_path / "run"
    out.mkdir()
    prepare(out)
    before = sorted(out.iterdir()) if out.exists() else None
    with pytest.raises(error, match=message):
        recipe.train(out, **changes)
    after = sorted(out.iterdir()) if out.exists() else None
    names = [path.name for path in set(after or ()) - set(before or ())]
    assert all(name == ".lock" or name.startswith("events") for name in names)


def test_settings_that_do_not_change_the_result_may_change(tmp_path, uninterrupted):
    with pytest.raises(Stopped):
        recipe.train(tmp_path, on_step=stop_at((1, 0)))
    run = {"seed": 1, "out": "elsewhere", "device": "cuda", "eval_every": 3}
    assert_same(recipe.train(tmp_path, resume=True, config={"run": run}), uninterrupted.states)
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["run"] == run


def test_run_of_another_method(tmp_path):
    fill_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to method 'toy', not 'aim'.*toy-train"):
        Run.start(recipe.settings(tmp_path), method="aim", version="1", config={}, resume=True)


def test_folder_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        recipe.train(tmp_path / "run")


@POSIX
def test_folder_in_use(tmp_path, run_process):
    with Run.start(recipe.settings(tmp_path), method="toy", version="1", config={}):
        args = {"out": str(tmp_path), "resume": True, "message": str(tmp_path / "message.txt")}
        assert run_process(**args) == 2
    message = (tmp_path / "message.txt").read_text(encoding="utf-8")
    assert message.startswith("ConfigError: run folder ")
    assert " is in use by process " in message


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "nan"), (torch.tensor(float("-inf")), "-inf")]
)
def test_non_finite_term_stops_the_run(tmp_path, value, text):
    def terms(epoch, step):
        return {"loss_kl": value if (epoch, step) == (1, 3) else 0.0}

    with pytest.raises(
        NonFiniteLossError, match=rf"^loss_kl is {text} in epoch 1, batch 3 .*1-3-0-0\.jpg"
    ):
        recipe.train(tmp_path, terms=terms)
    report = json.loads((tmp_path / "nonfinite.json").read_text(encoding="utf-8"))
    assert (report["epoch"], report["step"], report["process"]) == (1, 3, 0)
    assert report["terms"]["loss_kl"] == text
    assert report["files"] == [f"1-3-0-{i}.jpg" for i in range(4)]
    assert read_checkpoint(tmp_path / "last.pt").epoch == 1


@pytest.mark.parametrize("bad", [(0, 1), (0, 3), (0, 4)])
def test_late_values_are_checked_before_anything_is_saved(tmp_path, monkeypatch, bad):
    """On a GPU the values of a batch are looked at one batch later."""
    monkeypatch.setattr(run_module.PendingTerms, "is_late", property(lambda self: True))

    def terms(epoch, step):
        return {"loss_kl": float("nan") if (epoch, step) == bad else 0.0}

    with pytest.raises(NonFiniteLossError, match=f"epoch {bad[0]}, batch {bad[1]} "):
        recipe.train(tmp_path, terms=terms, checkpoint_steps=2)
    saved = tmp_path / "last.pt"
    position = read_checkpoint(saved).step if saved.exists() else 0
    assert position <= bad[1]
    assert read_records(tmp_path) == []


def test_late_values_give_the_same_records(tmp_path, monkeypatch, uninterrupted):
    monkeypatch.setattr(run_module.PendingTerms, "is_late", property(lambda self: True))
    assert_same(recipe.train(tmp_path, checkpoint_steps=2), uninterrupted.states)
    assert read_records(tmp_path) == uninterrupted.records


@pytest.mark.gpu
def test_resume_on_cuda(tmp_path):
    """The generators of the device are part of the checkpoint."""
    settings = recipe.settings(tmp_path, device="cuda")
    draws = []
    for resume in (False, True):
        with Run.start(settings, method="toy", version="1", config={}, resume=resume) as run:
            net = torch.nn.Linear(6, 1).to(run.device)
            run.track(net=net)
            loader = recipe.ToyLoader()
            for epoch in run.epochs(2):
                for batch in run.batches(loader):
                    draw = torch.rand((), device=run.device)
                    draws.append((epoch, float(draw)))
                    run.record({"loss": draw, "number": 1.0}, batch)
                if epoch == 1 and not resume:
                    break
    assert draws[5:10] == draws[10:]


@POSIX
def test_disk_full_keeps_the_checkpoint_before(tmp_path, run_process, uninterrupted):
    out, result, message = tmp_path / "run", tmp_path / "result.pt", tmp_path / "message.txt"
    args = {"out": str(out), "result": str(result), "checkpoint_steps": 2}
    # The first checkpoint is saved, the second refused.
    limit = {"limit_at": 4, "num_bytes": 6000, "message": str(message)}
    assert run_process(**args, **limit) == 2
    text = message.read_text(encoding="utf-8")
    assert text.startswith(f"OutputError: cannot write {out / 'last.pt'}: ")
    assert " are needed. Free there: " in text
    assert f"--resume {out}" in text
    assert not list(out.glob("*.tmp"))
    assert read_checkpoint(out / "last.pt").step == 2
    assert run_process(**args, resume=True) == 0
    assert_same(torch.load(result), uninterrupted.states)
    assert read_records(out) == uninterrupted.records


def test_folder_without_permission(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(OutputError, match=r"Permission denied\. Choose a folder"):
        recipe.train(tmp_path / "run")


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    recipe.train(tmp_path)
    assert threading.active_count() == before


# --- several processes ------------------------------------------------------------------------


def read_results(folder: Path) -> list[dict]:
    return [torch.load(folder / f"result{rank}.pt") for rank in range(2)]


@POSIX
def test_two_processes_stay_equal_and_resume(tmp_path, run_pair):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert run_pair(whole, checkpoint_steps=2) == [0, 0]
    first, second = read_results(whole)
    for name in ("extra", "optimizer_main", "optimizer_side", "schedule_main"):
        assert_same(first[name], second[name], name)
    # Parameters and, at the end of an epoch, running statistics are equal; draws are not.
    assert_same(first["net"], second["net"])
    assert first["draws"] != second["draws"]

    killed = run_pair(parts, checkpoint_steps=2, only={0: {"kill_at": 9}})
    assert killed == [-9, 2]
    assert (parts / "message1.txt").read_text(encoding="utf-8").startswith("PeerError: ")
    assert run_pair(parts, checkpoint_steps=2, resume=True) == [0, 0]
    for resumed, expected in zip(read_results(parts), (first, second), strict=True):
        assert_same(resumed, expected)
    assert read_records(parts / "run") == read_records(whole / "run")


@POSIX
@pytest.mark.parametrize("failing", [0, 1])
def test_failure_of_one_process_stops_the_other(tmp_path, run_pair, failing):
    codes = run_pair(tmp_path, only={failing: {"nan_at": 3}})
    assert codes == [2, 2]
    texts = [(tmp_path / f"message{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]
    assert texts[failing].startswith("NonFiniteLossError: loss_bad is nan")
    assert texts[1 - failing].startswith("PeerError: another process of this run stopped")


@POSIX
def test_bad_folder_stops_all_processes(tmp_path, run_pair):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert run_pair(tmp_path) == [2, 2]
    texts = [(tmp_path / f"message{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]
    assert texts[0].startswith("ConfigError: run folder")
    assert texts[1].startswith("PeerError: process 0 stopped: ConfigError: run folder")


@POSIX
def test_other_number_of_processes_is_refused(tmp_path, run_pair):
    fill_run(tmp_path / "run")
    assert run_pair(tmp_path, resume=True) == [2, 2]
    text = (tmp_path / "message0.txt").read_text(encoding="utf-8")
    assert "written by 1 process(es), now there are 2" in text


# --- where a run came from ---------------------------------------------------------------------


def test_origin_is_the_first_start_also_after_a_resume(tmp_path):
    settings = RunConfig(out=tmp_path / "run", device="cpu")
    first = {"preset": "demo", "command": "tiny-train --preset demo"}
    with Run.start(settings, method="tiny", version="1", config={}, origin=first) as run:
        assert run.origin == first
    later = {"preset": "resume", "command": "tiny-train --resume run"}
    start = {"method": "tiny", "version": "1", "config": {}, "origin": later, "resume": True}
    with Run.start(settings, **start) as run:
        assert run.origin == first


def test_damaged_origin_is_replaced_by_the_present_one(tmp_path):
    settings = RunConfig(out=tmp_path / "run", device="cpu")
    with Run.start(settings, method="tiny", version="1", config={}):
        pass
    (tmp_path / "run" / "origin.json").write_text("{")
    later = {"command": "tiny-train --resume run"}
    start = {"method": "tiny", "version": "1", "config": {}, "origin": later, "resume": True}
    with Run.start(settings, **start) as run:
        assert run.origin == later
