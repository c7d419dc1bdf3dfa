"""RegDB's trials, each with a network of its own, and LLCM's three protocols."""

import json
import shutil

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="module")
def regdb(make_data):
    return make_data("regdb")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, regdb, small):
    """Return a folder with runs of both trials that the miniature has."""
    folder = tmp_path_factory.mktemp("trials")
    for trial in (1, 2):
        args = ("--data", regdb, *small, "--epochs", "1", "--trial", trial)
        run_installed("agw-train", *args, "--out", f"regdb-{trial}", cwd=folder)
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def test_a_pattern_averages_the_trials(run, trained, regdb, tmp_path):
    args = ("--weights", trained / "regdb-{trial}", "--data", regdb, "--out", "all")
    assert run("agw-eval", *args) == 0
    found = results(tmp_path / "all")
    each = [results(trained / f"regdb-{trial}") for trial in (1, 2)]
    assert set(found) == {"regdb/visible_to_thermal", "regdb/thermal_to_visible"}
    for protocol, figures in found.items():
        assert figures["num_trials"] == 2
        for name in ("rank1", "mAP", "mINP"):
            expected = [single[protocol][name] for single in each]
            assert figures[name] == pytest.approx(sum(expected) / 2, abs=1e-12)


def test_weights_are_evaluated_on_their_own_trial(run, trained, regdb, tmp_path):
    args = ("--weights", trained / "regdb-2", "--data", regdb, "--out", "own")
    assert run("agw-eval", *args, "--dataset", "regdb", "--tvsearch") == 0
    expected = results(trained / "regdb-2")["regdb/thermal_to_visible"]
    assert results(tmp_path / "own") == {"regdb/thermal_to_visible": expected}


def test_a_missing_trial_stops_the_evaluation(run, trained, regdb, tmp_path, capsys):
    shutil.copytree(trained / "regdb-1", tmp_path / "regdb-1")
    args = ("--weights", "regdb-{trial}", "--data", regdb, "--out", "all")
    assert run("agw-eval", *args) == 2
    assert "regdb-2" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()


def test_llcm_prints_each_protocol_beside_its_own_table(run, make_data, small, tmp_path, capsys):
    args = ("--data", make_data("llcm"), *small, "--epochs", "1", "--out", "run")
    assert run("agw-train", *args) == 0
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert set(record["results"]) == {"llcm/ir2vis", "llcm/vis2ir", "llcm/vis2ir_readme"}
    assert record["published"]["llcm/vis2ir_readme"]["rank1"] == 0.6372
    assert record["published"]["llcm/vis2ir"]["mAP"] == 0.553
    printed = capsys.readouterr().out
    for source in ("LLCM repository, 2023-06-24", "Zhang and Wang, CVPR 2023"):
        assert source in printed
