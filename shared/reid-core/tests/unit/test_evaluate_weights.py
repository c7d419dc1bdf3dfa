"""``<method>-eval``: trials with a network each, draws of the authors, mirror images."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reid_core.commands import evaluate
from reid_core.commands.arguments import EvaluateArguments
from reid_core.commands.evaluate import evaluate_weights
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.permutation_file import open_permutations
from reid_core.commands.results import MethodInfo, publish
from reid_core.data.sample import ReIDDataset
from reid_core.errors import CheckpointError, ConfigError, ProtocolError
from reid_core.evaluation import PROTOCOLS

TOY = MethodInfo(name="toy", title="Toy", version="1", citation="A", source="A", published={})
DIRECTIONS = ("regdb/visible_to_thermal", "regdb/thermal_to_visible")


@pytest.fixture(scope="module")
def regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RegDB with the first and the third of its ten trials."""
    folder = tmp_path_factory.mktemp("data") / "RegDB"
    rng = np.random.default_rng(0)
    images: dict[tuple[str, int], list[str]] = {}
    for kind in ("Visible", "Thermal"):
        for pid in range(1, 9):
            look = rng.integers(40, 216, (8, 4, 3))
            (folder / kind / str(pid)).mkdir(parents=True)
            for number in range(3):
                name = f"{kind}/{pid}/{kind.lower()}_{kind[0].lower()}_{number}_{pid}.bmp"
                pixels = np.clip(look + rng.normal(0, 40, look.shape), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
                images.setdefault((kind, pid), []).append(name)
    (folder / "idx").mkdir()
    for trial in (1, 3):
        people = [1, 2, 3, 4] if trial == 1 else [3, 4, 5, 6]
        rest = [pid for pid in range(1, 9) if pid not in people]
        for split, pids in (("train", people), ("test", rest)):
            for kind in ("Visible", "Thermal"):
                lines = [
                    f"{name} {label}"
                    for label, pid in enumerate(pids)
                    for name in images[kind, pid]
                ]
                path = folder / "idx" / f"{split}_{kind.lower()}_{trial}.txt"
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Cards of two networks, of the trials that are there."""
    for trial in (1, 3):
        card = {"dataset": "regdb", "trial": trial}
        (tmp_path / f"net-{trial}.json").write_text(json.dumps(card), encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(networks, tmp_path):
    """Evaluate the networks of cards; returns results.json and the folder."""
    numbers = iter(range(100))

    def load(path: Path) -> LoadedNetwork:
        return LoadedNetwork(
            method="toy",
            network=networks.TwoStreams(seed=int(path.stem[-1])).eval(),
            source=path,
            height=32,
            width=16,
            card=json.loads(path.read_text(encoding="utf-8")),
            interpolation="lanczos",
            flip="none",
        )

    def start(weights: Path | str, data: Path | str, method=TOY, complete=None, **options):
        out = tmp_path / f"out-{next(numbers)}"
        arguments = EvaluateArguments(
            weights=Path(weights),
            data=str(data),
            out=out,
            device="cpu",
            cache="memory",
            batch_size=5,
            queries=2,
            **options,
        )
        evaluate_weights(load, arguments, method, command="toy-eval", complete=complete)
        return json.loads((out / "results.json").read_text(encoding="utf-8")), out

    return start


def test_the_card_of_the_weights_may_choose_the_published_figures(run, regdb, weights):
    def info(card):
        figures = {"rank1": card["trial"] / 10, "mAP": 0.5}
        return replace(TOY, published={DIRECTIONS[0]: figures})

    found, _ = run(weights / "net-3.json", regdb, method=info)
    assert found["published"] == {DIRECTIONS[0]: {"rank1": 0.3, "mAP": 0.5}}


def test_a_network_per_trial_is_the_mean_over_the_trials(run, regdb, weights, capsys):
    alone = {trial: run(weights / f"net-{trial}.json", regdb)[0] for trial in (1, 3)}
    together, folder = run(weights / "net-{trial}.json", regdb)
    for found, parts in (
        (together["results"], [alone[trial]["results"] for trial in (1, 3)]),
        (
            together["variants"]["pool feature"],
            [alone[trial]["variants"]["pool feature"] for trial in (1, 3)],
        ),
    ):
        assert set(found) == set(DIRECTIONS)
        for name in DIRECTIONS:
            values = [part[name]["mAP"] for part in parts]
            assert values[0] != values[1]
            assert found[name]["mAP"] == pytest.approx(np.mean(values))
            assert found[name]["mAP_std"] == pytest.approx(np.std(values))
            assert found[name]["num_trials"] == 2
            assert found[name]["notes"] == [
                "evaluated on list 1, 3 of 10; published figures are means over all, each with its "
                "own network"
            ]
    assert [item["trial"] for item in together["weights"]] == [1, 3]
    assert [item["card"]["trial"] for item in together["weights"]] == [1, 3]
    assert (together["flip"], together["interpolation"]) == ("none", "lanczos")
    table = folder / "queries-regdb-thermal_to_visible-pool-feature.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["1"] * 12 + ["3"] * 12
    assert {row["modality"] for row in rows} == {"infrared"}
    shown = capsys.readouterr().out
    assert "Evaluated, pool feature" in shown
    assert "std of 2 trials" in shown
    assert "evaluated on list 1, 3 of 10" in " ".join(shown.split())
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert 'class="modality infrared"' in report
    assert 'class="modality visible"' in report


def test_one_trials_features_are_held_at_a_time(run, regdb, weights, monkeypatch):
    outcomes = []

    def keep(folder, method, outcome, **options):
        outcomes.append(outcome)
        return publish(folder, method, outcome, **options)

    monkeypatch.setattr(evaluate, "publish", keep)
    run(weights / "net-{trial}.json", regdb)
    (outcome,) = outcomes
    assert set(outcome.evaluation.samples) == {"test_1", "test_3"}
    assert set(outcome.evaluation.features) == {"test_1"}


def test_the_trial_is_that_of_the_weights(run, regdb, weights, caplog):
    with caplog.at_level(logging.WARNING):
        third, _ = run(weights / "net-3.json", regdb)
    assert "trained on trial" not in caplog.text
    assert third["weights"]["trial"] == 3
    note = third["results"][DIRECTIONS[0]]["notes"][0]
    assert note.startswith("evaluated on list 3 of 10;")
    asked, _ = run(weights / "net-3.json", regdb, trial=1)
    assert asked["weights"]["trial"] == 1
    assert asked["results"][DIRECTIONS[0]]["mAP"] != third["results"][DIRECTIONS[0]]["mAP"]
    assert "net-3.json was trained on trial 3 of regdb; some people of trial 1's" in caplog.text
    unknown = weights / "plain-3.json"
    unknown.write_text("{}", encoding="utf-8")
    caplog.clear()
    assert run(unknown, regdb)[0]["weights"]["trial"] == 1
    assert "does not say on which trial of regdb it was trained" in caplog.text
    elsewhere = weights / "sysu-3.json"
    elsewhere.write_text('{"dataset": "sysu"}', encoding="utf-8")
    caplog.clear()
    assert run(elsewhere, regdb)[0]["weights"]["trial"] == 1
    assert "does not say" not in caplog.text
    assert run(unknown, regdb, trial=3)[0]["weights"]["trial"] == 3
    assert "does not say" not in caplog.text
    one, _ = run(weights / "net-{trial}.json", regdb, trial=3)
    assert one["results"] == third["results"]


def test_networks_that_do_not_belong_to_their_trials(run, regdb, weights, tmp_path):
    (weights / "net-3.json").unlink()
    with pytest.raises(CheckpointError, match=r"there is no \S+net-3.json; train what is missing"):
        run(weights / "net-{trial}.json", regdb)
    assert not (tmp_path / "out-0").exists()
    card = {"dataset": "regdb", "trial": 2}
    (weights / "net-3.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"net-3.json was trained on trial 2 of regdb, not on"
    ):
        run(weights / "net-{trial}.json", regdb)
    assert not (tmp_path / "out-1").exists()


def test_an_unfinished_run_is_found_before_any_network_is_evaluated(run, regdb, weights, tmp_path):
    (weights / "net-1.json").rename(weights / "regdb-1")
    (weights / "regdb-3").mkdir()  # of a training that was stopped
    with pytest.raises(CheckpointError, match=r"there is no \S+regdb-3\S+model\.safetensors;"):
        run(weights / "regdb-{trial}", regdb)
    assert not (tmp_path / "out-0").exists()


def test_weights_are_looked_at_before_any_data(run, weights, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("REID_CACHE", str(cache))
    with pytest.raises(CheckpointError, match=r"there is none \(nothing is called \S+nets-\*.json"):
        run(weights / "nets-{trial}.json", "synthetic:regdb")
    with pytest.raises(ConfigError, match=r"data\.trial=11: regdb has the trials 1 to 10"):
        run(weights / "nets-1.json", "synthetic:regdb", trial=11)
    completed = []

    def complete(arguments):
        completed.append(arguments)
        return arguments

    with pytest.raises(FileNotFoundError):  # of this test's loader
        run(weights / "nets-1.json", "synthetic:regdb", complete=complete)
    assert not completed
    assert not cache.exists()


def test_companions_are_for_networks_that_look_at_them(run, regdb, weights, tmp_path, caplog):
    plain, _ = run(weights / "net-1.json", regdb)
    assert "--prepared" not in caplog.text
    completed = []
    others = {"prepared": tmp_path / "nowhere", "complete": completed.append}
    found, _ = run(weights / "net-1.json", regdb, **others)
    assert "--prepared has no effect: toy looks at the images alone" in caplog.text
    assert not completed
    assert found["fingerprint"] == plain["fingerprint"]


def test_a_pattern_is_for_data_sets_with_trials(run, weights, tmp_path):
    with pytest.raises(ConfigError, match="but sysu has one division into training and test"):
        run(weights / "net-{trial}.json", tmp_path, dataset="sysu")


def test_mirror_images_as_asked_for(run, regdb, weights):
    found = {
        flip: run(weights / "net-1.json", regdb, flip=flip)[0]
        for flip in ("auto", "none", "sum", "mean")
    }
    assert {flip: record["flip"] for flip, record in found.items()} == {
        "auto": "none",
        "none": "none",
        "sum": "sum",
        "mean": "mean",
    }
    figures = {
        flip: [record["results"][name]["mAP"] for name in DIRECTIONS]
        for flip, record in found.items()
    }
    assert figures["auto"] == figures["none"] != figures["sum"]


def permutation_file(path: Path) -> Path:
    people = np.empty((2, 1), dtype=object)
    people[:, 0] = [np.array([[2, 1], [1, 2]]), np.zeros((0, 0))]
    cameras = np.empty((6, 1), dtype=object)
    for camera in range(6):
        cameras[camera, 0] = people
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"rand_perm_cam": cameras})
    return path


def test_the_authors_table_is_the_data_sets_own_unless_another_is_named(tmp_path, caplog):
    dataset = ReIDDataset(name="sysu", root=tmp_path / "SYSU-MM01", splits={})
    drawn = [PROTOCOLS["sysu/all_search_official"], PROTOCOLS["sysu/indoor_search_official"]]
    plain = [PROTOCOLS["sysu/all_search"]]
    with pytest.raises(ProtocolError, match=r"all_search_official draws its gallery by a table .*"):
        open_permutations(drawn, dataset)
    other = permutation_file(tmp_path / "other.mat")
    assert open_permutations(drawn, dataset, other).source == other
    own = permutation_file(dataset.root / "exp" / "rand_perm_cam.mat")
    found = open_permutations(drawn, dataset)
    assert found.source == own
    assert found.cells[0, 1].tolist() == [[2, 1], [1, 2]]
    assert open_permutations(plain, dataset) is None
    assert not caplog.text
    assert open_permutations(plain, dataset, other) is None
    assert "--permutation has no effect" in caplog.text
    with pytest.raises(ProtocolError, match=r"cannot read .*missing.mat"):
        open_permutations(drawn, dataset, tmp_path / "missing.mat")
