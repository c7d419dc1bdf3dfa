"""The parts of benchmarks/run.py: the matrix, cells, journals, the ledger and its tables."""

import csv
import importlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reid_core.data.readers import READERS
from reid_core.errors import ConfigError, ReIDError
from reid_core.evaluation.protocols.lookup import PROTOCOLS

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"
DATASETS = """
[datasets.ltcc]
protocols = ["ltcc/standard", "ltcc/cloth_changing"]
[datasets.regdb]
trials = 10
protocols = ["regdb/visible_to_thermal"]
"""
ROW = """
[[rows]]
method = "aim"
dataset = "ltcc"
preset = "paper"
gpu_hours = "not measured yet"
"""
PUBLISHED = """
[rows.published]
source = "Somebody, 2020"
"ltcc/standard" = { rank1 = 76.3, mAP = 41.1 }
[rows.certainty."ltcc/standard"]
rank1 = "believed"
"""
SECOND = ROW.replace("aim", "agw").replace("ltcc", "regdb")


@pytest.fixture
def part(monkeypatch):
    """Import a part by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"matrix.{name}")


@pytest.fixture
def read(part, tmp_path):
    def write_and_read(text):
        path = tmp_path / "matrix.toml"
        path.write_text(text, encoding="utf-8")
        return part("schema").read_matrix(path)

    return write_and_read


@pytest.fixture
def options(part, tmp_path):
    def parse(matrix, *argv):
        return part("options").parse_options(argv, matrix, tmp_path)

    return parse


def test_the_matrix_of_the_project_is_sound(part):
    matrix = part("schema").read_matrix(BENCHMARKS / "matrix.toml")
    for name, dataset in matrix.datasets.items():
        info = READERS[name].info
        assert dataset.trials == (info.num_trials if info.num_trials > 1 else None)
        assert set(dataset.protocols) <= set(PROTOCOLS)
        assert dataset.title == info.title
        assert "baseline" in {row.method for row in matrix.rows_of(name)}
    labels = {"aim": "clothes", "iics": "cameras"}
    for row in matrix.rows:
        info = READERS[row.dataset].info
        if labels.get(row.method) == "clothes":
            assert info.clothes_label != "none"
        if labels.get(row.method) == "cameras":
            assert info.camera_label == "camera"


def test_a_row_is_read(read):
    matrix = read(DATASETS + ROW + PUBLISHED + SECOND.replace("paper", "demo"))
    aim, agw = matrix.rows
    assert (aim.method, aim.name, aim.preset, aim.gpu_hours) == ("aim", "aim", "paper", None)
    assert aim.published == {"ltcc/standard": {"rank1": 76.3, "mAP": 41.1}}
    assert aim.sources == {"ltcc/standard": "Somebody, 2020"}
    assert matrix.rows_of("regdb") == [agw]
    assert matrix.datasets["regdb"].trials == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"aim"', '"aim'), "matrix.toml"),
        (lambda text: text.replace('preset = "paper"', ""), r"row 1 \(aim on ltcc\): preset miss"),
        (lambda text: text.replace("preset", "presets"), "presets unknown; choose from method"),
        (lambda text: text.replace('dataset = "ltcc"', 'dataset = "ltc"'), "choose from ltcc, reg"),
        (lambda text: text.replace('method = "aim"', "method = 3"), "method=3 must be a name"),
        (lambda text: text.replace('"not measured yet"', "-2"), "gpu_hours=-2 must be hours"),
        (lambda text: text.replace("[[rows]]", '[[rows]]\nneeds = "--p"'), "made_by=None the comm"),
        (lambda text: text + ROW, r"row 2 \(aim on ltcc\): the same as row 1; give it a name"),
        (lambda text: text.replace("76.3", "763"), "rank1=763 must be percent"),
        (lambda text: text.replace("rank1 = 7", "rank = 7"), "'rank' is no figure"),
        (lambda text: text.replace('"ltcc/standard" = {', '"ltcc/x" = {'), "'ltcc/x' is unknown"),
        (lambda text: text.replace('source = "Somebody, 2020"', ""), "need a source"),
        (lambda text: text.replace('"believed"', '"sure"'), "is 'sure'; use confirmed, believed"),
        (lambda text: text.replace('rank1 = "b', 'rank9 = "b'), "rank9, which is not published"),
        (lambda text: text.replace("trials = 10", "trials = 1"), "trials=1 must be a number above"),
        (lambda text: text.replace('["regdb/v', '["sysu/v'), "must begin with regdb/"),
        (lambda text: text.replace("[[rows]]", '[[rows]]\nscript = "no.py"'), "'no.py' is no file"),
        (lambda text: text.replace("[[rows]]", "[[rows]]\nflags = 3"), "flags=3 must be a list"),
    ],
)
def test_a_wrong_matrix_is_refused(read, change, message):
    with pytest.raises(ConfigError, match=message):
        read(change(DATASETS + ROW + PUBLISHED))


def test_all_that_is_wrong_is_named_at_once(read):
    with pytest.raises(ConfigError) as caught:
        read(DATASETS + ROW.replace("paper", "Pa per") + SECOND.replace("regdb", "sysu"))
    assert "preset='Pa per'" in str(caught.value)
    assert "dataset 'sysu'" in str(caught.value)


def test_cells_come_seed_by_seed(part, read, options):
    matrix = read(DATASETS + ROW + ROW.replace("aim", "cssc") + SECOND)
    chosen = options(matrix, "all", "--data", "synthetic", "--seeds", "2", "--trials", "2")
    cells = part("cells").plan_cells(matrix, ["ltcc", "regdb"], chosen)
    assert [(cell.seed, cell.dataset.name, cell.trial, cell.row.name) for cell in cells] == [
        (seed, *rest)
        for seed in (1, 2)
        for rest in (
            *(("ltcc", None, "aim"), ("ltcc", None, "cssc")),
            *(("regdb", 1, "agw"), ("regdb", 2, "agw")),
        )
    ]
    assert len({cell.folder for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("argv", "trials"),
    [
        (["--data", "ROOT"], list(range(1, 11))),
        (["--data", "synthetic"], [1]),
        (["--data", "ROOT", "--trials", "3"], [1, 2, 3]),
    ],
)
def test_trials_are_all_unless_it_is_said_otherwise(part, read, options, argv, trials):
    matrix = read(DATASETS + SECOND)
    cells = part("cells").plan_cells(matrix, ["regdb"], options(matrix, "regdb", *argv))
    assert [cell.trial for cell in cells] == trials


def test_commands_of_a_cell(part, read, options):
    matrix = read(DATASETS + ROW + SECOND)
    plan = part("cells").plan_cells
    (cell,) = plan(
        matrix,
        ["ltcc"],
        options(matrix, "ltcc", "--data", "/data/mine", "--model.weights", "/w/x.pth"),
    )
    public = cell.public_command("cuda")
    assert public == (
        "aim-train --data ROOT --dataset ltcc --preset paper --seed 1 --device cuda "
        "--model.weights .../x.pth"
    )
    assert cell.arguments(None)[:2] == ["--data", "/data/mine"]
    assert cell.resume_arguments(None) == [
        *("--resume", str(cell.folder), "--data", "/data/mine", "--dataset", "ltcc")
    ]
    (other,) = plan(matrix, ["ltcc"], options(matrix, "ltcc", "--data", "/data/mine"))
    assert other.folder != cell.folder, "other settings are another cell"
    (trial,) = plan(
        matrix, ["regdb"], options(matrix, "regdb", "--data", "synthetic", "--trials", "1")
    )
    assert trial.public_command(None) == (
        "agw-train --data synthetic:regdb --dataset regdb --preset demo --seed 1 --data.trial 1"
    )


def test_an_option_that_a_row_needs_goes_to_that_row_only(part, read, options):
    needy = ROW.replace("aim", "deskpro")
    needy += 'needs = "--data.prepared"\nmade_by = "deskpro-prepare --out P"\n'
    matrix = read(DATASETS + ROW + needy)
    plan = part("cells").plan_cells

    def overrides(*argv):
        cells = plan(matrix, ["ltcc"], options(matrix, "ltcc", *argv))
        return {cell.row.name: cell.overrides for cell in cells}

    assert overrides("--data", "ROOT") == {"aim": ()}, "left out without it"
    assert overrides("--data", "synthetic") == {"aim": (), "deskpro": ()}
    found = overrides(
        "--data", "ROOT", "--epochs", "3", "--data.prepared", "P", "--run.threads", "1"
    )
    assert found["aim"] == ("--epochs", "3", "--run.threads", "1")
    assert found["deskpro"] == ("--epochs", "3", "--data.prepared", "P", "--run.threads", "1")
    found = overrides("--data", "ROOT", "--data.prepared=P", "--epochs", "3")
    assert (found["aim"], found["deskpro"][0]) == (("--epochs", "3"), "--data.prepared=P")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["market"], "invalid choice: 'market'"),
        (["ltcc", "--methods", "agw"], "no row for agw on ltcc; choose from aim"),
        (["ltcc", "--seeds", "0"], "--seeds 0 must be at least 1"),
        (["regdb", "--trials", "11"], "--trials 11 must lie in 1..10"),
        (["ltcc", "--devices", "0,x"], "'x' is none; use cpu, or numbers"),
        (["ltcc", "--devices", "0,0"], "GPU 0 is named twice"),
        (["ltcc", "--devices", "cpu", "--device", "cuda"], "exclude each other"),
        (["ltcc", "--seed", "3"], "use --seeds"),
        (["ltcc", "--run.out=x"], "use --out"),
        (["ltcc", "--data", "synthetic:prcc"], "this is the benchmark of ltcc"),
    ],
)
def test_wrong_arguments_are_refused(read, options, capsys, argv, message):
    matrix = read(DATASETS + ROW + SECOND)
    with pytest.raises(SystemExit) as caught:
        options(matrix, *argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_journal_forgets_the_line_that_was_not_finished(part, tmp_path):
    journal = part("journal")
    path = tmp_path / "below" / "journal.jsonl"
    with journal.Journal(path) as open_journal:
        open_journal.append({"number": 1})
    path.write_bytes(path.read_bytes() + b'{"number": 2')
    assert journal.read_journal(path) == [{"number": 1}]
    with journal.Journal(path) as open_journal:
        open_journal.append({"number": 3})
    assert path.read_text() == '{"number": 1}\n{"number": 3}\n'


@pytest.mark.parametrize(
    ("text", "message"), [("{}\nx\n{}\n", "line 2 is no JSON"), ("3\n", "line 1 is no JSON object")]
)
def test_a_damaged_journal_is_refused(part, tmp_path, text, message):
    path = tmp_path / "journal.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReIDError, match=message):
        part("journal").read_journal(path)


def test_a_journal_belongs_to_one_process_at_a_time(part, tmp_path):
    journal = part("journal")
    path = tmp_path / "journal.jsonl"
    with journal.Journal(path), pytest.raises(ReIDError, match="in use by another benchmark"):
        journal.Journal(path, patience=0.1)
    with journal.Journal(path, patience=0.1) as free:
        free.append({})


_WRITER = """
import sys
from pathlib import Path
from matrix.journal import Journal
for number in range(20):
    with Journal(Path(sys.argv[1])) as journal:
        journal.append({"writer": sys.argv[2], "number": number})
"""


def test_several_processes_write_whole_lines(part, tmp_path):
    path = tmp_path / "journal.jsonl"
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name], env=env)
        for name in "abc"
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = part("journal").read_journal(path)
    for name in "abc":
        assert [item["number"] for item in found if item["writer"] == name] == list(range(20))


class Finished:
    """Makes run folders as trainings leave them."""

    def __init__(self, part, matrix, folder):
        self.part, self.matrix, self.folder = part, matrix, folder

    def cell(self, row=0, seed=1, trial=None, preset="paper", synthetic=False, overrides=()):
        found = self.matrix.rows[row]
        return self.part("cells").Cell(
            dataset=self.matrix.datasets[found.dataset],
            row=found,
            seed=seed,
            trial=trial,
            preset=preset,
            data="ROOT",
            synthetic=synthetic,
            overrides=overrides,
            folder=self.folder / f"{found.name}-{preset}-{seed}-{trial}-{synthetic}",
        )

    def leave(self, cell, rank1, *, selected="last", best=None):
        cell.folder.mkdir(parents=True, exist_ok=True)
        figures = {"rank1": rank1, "mAP": rank1 / 2, "mINP": 0.1, "num_queries": 5, "scoring": "x"}
        results = dict.fromkeys(cell.dataset.protocols, figures)
        better = {name: {**item, "rank1": best or rank1} for name, item in results.items()}
        record = {
            "synthetic": cell.synthetic,
            "fingerprint": "f00",
            "epochs": 3,
            "selected": selected,
            "best_on_test": {"epoch": 1, "rank1": best or rank1, "results": better},
            "results": results,
        }
        (cell.folder / "results.json").write_text(json.dumps(record))
        last = {name: {**item, "rank1": 0.05} for name, item in results.items()}
        metrics = [
            *({"kind": "train", "timing": {"images_per_second": rate}} for rate in (10, 30, 20)),
            {"kind": "eval", "epoch": 2, "results": last},
        ]
        (cell.folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
        (cell.folder / "report.html").write_text("")

    def add(self, cell, rank1, **more):
        self.leave(cell, rank1, **more)
        return self.enter(cell)

    def enter(self, cell):
        with self.part("attempts").Attempts(cell) as attempts:
            return self.part("ledger").add_to_ledger(self.folder, cell, attempts)

    def lines(self, *, synthetic=False):
        records = self.part("ledger").read_ledger(self.folder)
        return self.part("summary").summarise(self.matrix, records, synthetic=synthetic)


@pytest.fixture
def finished(part, read, tmp_path):
    return Finished(part, read(DATASETS + ROW + PUBLISHED + SECOND), tmp_path / "results")


def test_a_cell_is_in_the_ledger_exactly_once(part, finished):
    cell = finished.cell()
    first = finished.add(cell, 0.5)
    assert finished.add(cell, 0.5) == first
    (record,) = part("ledger").read_ledger(finished.folder)
    assert record == first
    kept = {"rank1": 0.5, "mAP": 0.25, "mINP": 0.1, "num_queries": 5}
    assert record["last_epoch"]["ltcc/standard"] == kept
    assert (record["images_per_second"], record["fingerprint"]) == (20, "f00")


def test_the_last_epoch_is_told_from_the_one_that_was_chosen(finished):
    record = finished.add(finished.cell(), 0.5, selected="best", best=0.5)
    assert record["last_epoch"]["ltcc/standard"]["rank1"] == 0.05
    assert record["selected_results"]["ltcc/standard"]["rank1"] == 0.5
    assert record["best_on_test"]["results"]["ltcc/standard"]["rank1"] == 0.5


def test_results_on_generated_images_are_never_taken_for_real_ones(finished):
    generated = finished.cell(synthetic=True)
    finished.leave(generated, 0.5)
    with pytest.raises(ReIDError, match="holds results on synthetic images"):
        finished.enter(replace(generated, synthetic=False))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"results": 3, "synthetic": false}'])
def test_damaged_results_are_named(finished, text):
    cell = finished.cell()
    finished.leave(cell, 0.5)
    (cell.folder / "results.json").write_text(text)
    with pytest.raises(ReIDError, match=r"results\.json"):
        finished.enter(cell)


def test_attempts_add_up(part, finished):
    cell = finished.cell()
    ended = part("processes").Ended
    where = {"command": "aim-train", "hardware": {"gpus": []}, "device": "cpu"}
    with part("attempts").Attempts(cell) as attempts:
        attempts.start(where)
        attempts.end(ended(130, 10.0, 500))
    with part("attempts").Attempts(cell) as attempts:
        first = attempts.id
        assert not attempts.is_finished
        attempts.start(where)  # killed together with the benchmark
    cell.log.write_text("output")
    later = time.time() + 40
    os.utime(cell.log, (later, later))
    with part("attempts").Attempts(cell) as attempts:
        attempts.start(where)
        attempts.end(ended(0, 5.0, 400))
        finished.leave(cell, 0.5)
        assert attempts.is_finished
        assert attempts.id == first
        totals = attempts.totals()
    assert totals["attempts"] == 3
    assert 50 <= totals["wall_seconds"] <= 60
    assert totals["peak_memory_bytes"] == 500


def test_a_removed_run_is_another_run(part, finished):
    cell = finished.cell()
    ended = part("processes").Ended(0, 5.0, None)
    with part("attempts").Attempts(cell) as attempts:
        attempts.start({})
        attempts.end(ended)
    finished.add(cell, 0.5)
    for path in cell.folder.iterdir():
        path.unlink()
    with part("attempts").Attempts(cell) as attempts:
        assert not attempts.is_finished
        attempts.start({})
        attempts.end(ended)
    finished.add(cell, 0.7)
    first, second = part("ledger").read_ledger(finished.folder)
    assert first["id"] != second["id"]
    (line, _) = finished.lines()
    assert line.figures["rank1"].last.mean == pytest.approx(70), "the later one counts"


def test_means_spreads_and_differences(finished):
    for seed, rank1 in ((1, 0.70), (2, 0.80), (3, 0.75)):
        finished.add(finished.cell(seed=seed), rank1, best=0.9)
    line, unpublished = finished.lines()
    assert (line.protocol, line.source, len(line.records)) == ("ltcc/standard", "Somebody, 2020", 3)
    rank1 = line.figures["rank1"]
    assert str(rank1.last) == "75.0 +- 5.0"
    assert str(rank1.best) == "90.0 +- 0.0"
    assert rank1.difference == pytest.approx(75.0 - 76.3)
    assert rank1.certainty == "believed"
    assert (unpublished.source, unpublished.figures["rank1"].difference) == ("", None)


def test_trials_count_like_seeds(finished):
    for trial in (1, 2):
        finished.add(finished.cell(row=1, trial=trial), 0.2 * trial)
    (line,) = finished.lines()
    assert str(line.figures["rank1"].last) == "30.0 +- 14.1"


def test_other_settings_have_lines_of_their_own(finished):
    finished.add(finished.cell(), 0.5)
    finished.add(finished.cell(preset="demo", overrides=("--epochs", "1")), 0.3)
    assert [line.preset for line in finished.lines()] == [
        *("paper", "paper", "demo --epochs 1", "demo --epochs 1")
    ]


def test_synthetic_results_are_marked_everywhere(part, finished):
    finished.add(finished.cell(seed=1), 0.5)
    finished.add(finished.cell(seed=1, preset="demo", synthetic=True), 0.6)
    tables, page = part("tables"), part("page")
    real, synthetic = finished.lines(), finished.lines(synthetic=True)
    assert {line.preset for line in real} == {"paper"}
    assert {line.preset for line in synthetic} == {"demo"}
    text = tables.render_markdown(synthetic, synthetic=True)
    assert text.startswith("# Benchmark results on SYNTHETIC data\n")
    rows = [line for line in text.splitlines() if "| aim |" in line]
    assert rows
    assert all(row.startswith("| SYNTHETIC |") for row in rows)
    assert "76.3 (believed) | -" in text, "the published figure is shown, a difference is not"
    for row in csv.DictReader(io.StringIO(tables.render_csv(synthetic))):
        assert (row["kind"], row["difference"]) == ("SYNTHETIC", "")
    html = page.render_page(synthetic, synthetic=True)
    assert "<title>Benchmark results on SYNTHETIC data</title>" in html
    body = re.findall(r"<tbody>(.*?)</tbody>", html, flags=re.DOTALL)
    assert all(
        row.count(">SYNTHETIC<") == 1
        for table in body
        for row in re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL)
    )
    assert 'class="dot published"' not in html
    for kind in (
        tables.render_markdown(real, synthetic=False),
        tables.render_csv(real),
        page.render_page(real, synthetic=False),
    ):
        assert "SYNTHETIC" not in kind


def test_tables_of_real_results(part, finished):
    finished.add(finished.cell(seed=1), 0.5)
    finished.add(finished.cell(seed=2), 0.6)
    tables = part("tables")
    text = tables.render_markdown(finished.lines(), synthetic=False)
    assert (
        "| real | aim | paper | ltcc/standard | 2 | 55.0 +- 7.1 | 76.3 (believed) | -21.3 |" in text
    )
    rows = list(csv.DictReader(io.StringIO(tables.render_csv(finished.lines()))))
    first = rows[0]
    assert (first["figure"], first["runs"], first["seeds"]) == ("rank1", "2", "1 2")
    assert float(first["mean"]) == 55
    assert float(first["difference"]) == pytest.approx(-21.3)
    assert (rows[2]["protocol"], rows[2]["published"]) == ("ltcc/cloth_changing", "")


def test_the_page_is_well_formed_and_needs_nothing_else(part, finished):
    finished.add(finished.cell(seed=1), 0.5)
    finished.add(finished.cell(seed=2), 0.6)
    finished.add(finished.cell(row=1, trial=1), 0.6)
    html = part("page").render_page(finished.lines(), synthetic=False)
    charts = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(charts) == 6, "rank-1 and mAP of three protocols"
    for chart in charts:
        ElementTree.fromstring(chart)
    first = ElementTree.fromstring(charts[0])
    bar = next(item for item in first.iter("rect"))
    grid = [float(item.get("x1")) for item in first.iter("line")]
    assert float(bar.get("width")) == pytest.approx(0.55 * (max(grid) - min(grid)), abs=0.2)
    assert len([item for item in first.iter("path") if item.get("class") == "whisker"]) == 1
    assert len([item for item in first.iter("path") if "published" in item.get("class")]) == 1
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", html)


def test_a_label_is_escaped(part, finished):
    cell = replace(finished.cell(), overrides=("--x", "<b>&"))
    finished.add(cell, 0.5)
    html = part("page").render_page(finished.lines(), synthetic=False)
    assert "<b>&" not in html
    assert "&lt;b&gt;&amp;" in html


def test_slots_share_the_processors(part, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    running = part("running")
    monkeypatch.setattr(running, "num_cpus", lambda: 8)
    assert running.make_slots(()) == [running.Slot("auto", {})]
    first, second = running.make_slots(("0", "cpu"))
    assert first.env == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"}
    assert second.env == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": ""}
    assert (first.option, second.option) == ("cuda", "cpu")
    (alone,) = running.make_slots(("cpu",))
    assert alone.env == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize(
    ("overrides", "visible", "device"),
    [
        ((), None, "0"),
        ((), "", "cpu"),
        ((), "2,3", "2"),
        (("--device", "cuda:1"), "2,3", "3"),
        (("--run.device=cpu",), None, "cpu"),
    ],
)
def test_the_device_that_a_command_chooses(part, monkeypatch, overrides, visible, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert part("running")._used_device(overrides) == device


def test_every_slot_runs_one_cell_at_a_time(part):
    running, processes = part("running"), part("processes").Processes()
    busy, seen, guard = {"a": 0, "b": 0}, [], threading.Lock()
    together = threading.Barrier(2, timeout=30)

    def work(cell, slot, number):
        with guard:
            busy[slot.device] += 1
            assert busy[slot.device] == 1
            seen.append(cell)
        together.wait()  # both slots are at work at the same time
        with guard:
            busy[slot.device] -= 1
        return running.Outcome(cell, "done")

    outcomes = running.run_all(
        list("123456"),
        [running.Slot("a", {}), running.Slot("b", {})],
        work,
        processes=processes,
        finished=lambda outcome, number: None,
        watch=lambda: None,
    )
    assert sorted(seen) == list("123456")
    assert [outcome.cell for outcome in outcomes] == list("123456")


def test_a_defect_is_not_taken_for_the_end(part):
    running, processes = part("running"), part("processes").Processes()

    def work(cell, slot, number):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        running.run_all(
            ["1", "2"],
            [running.Slot("a", {})],
            work,
            processes=processes,
            finished=lambda outcome, number: None,
            watch=lambda: None,
        )
    assert processes.stopping


def test_a_process_is_measured_and_logged(part, tmp_path):
    processes = part("processes")
    log = tmp_path / "log"
    log.write_text("before\n")
    code = "import sys; data = bytearray(200_000_000); print('said'); sys.exit(3)"
    ended = processes.Processes().run(
        [sys.executable, "-c", code], env=dict(os.environ), log=log, echo=False
    )
    assert ended.status == 3
    assert ended.seconds > 0
    if hasattr(os, "wait4"):
        assert 200_000_000 < ended.peak_bytes < 2_000_000_000
    assert processes.last_lines(log, len("before\n")) == ["said"]


def test_nothing_is_started_once_everything_stops(part, tmp_path):
    processes = part("processes").Processes()
    processes.stop()
    command = [sys.executable, "-c", "pass"]
    assert processes.run(command, env={}, log=tmp_path / "log", echo=False) is None


def test_surroundings_name_no_person_and_no_machine(part):
    surroundings = part("surroundings")
    found = {
        **surroundings.describe_sources(),
        "versions": surroundings.describe_versions(sys.executable),
        "hardware": surroundings.describe_hardware("cpu"),
    }
    assert {"python", "torch", "numpy", "reid-core"} <= set(found["versions"])
    assert found["hardware"]["gpus"] == []
    assert found["hardware"]["cores"] >= 1
    text = json.dumps(found)
    assert str(BENCHMARKS.parent) not in text
    assert os.uname().nodename not in text if hasattr(os, "uname") else True
