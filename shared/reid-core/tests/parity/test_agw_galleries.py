"""Which images a trial's gallery holds: SYSU-MM01 with its real image counts, LLCM, MATLAB's table.

All labels are given in a random order with file paths: draws must go by the files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reid_core.evaluation import PROTOCOLS, Labels, Permutations, plan_searches

GOLDEN_METHOD = "agw"
NUM_TRIALS = 10


def shuffled(folders):
    """Labels of folders (camera from 1, identity, images, modality), files in random order.

    Returns the labels and, per row, (identity, camera from 1, position in its folder).
    """
    rows = [
        (pid, camera, index, modality)
        for camera, pid, count, modality in folders
        for index in range(count)
    ]
    order = np.random.default_rng(1).permutation(len(rows))
    rows = [rows[place] for place in order]
    labels = Labels(
        pids=[pid for pid, *_ in rows],
        camids=[camera - 1 for _, camera, _, _ in rows],
        modalities=[modality for *_, modality in rows],
        paths=tuple(
            Path(modality, f"cam{camera}", f"{pid:04d}", f"x_{index + 1:06d}.jpg")
            for pid, camera, index, modality in rows
        ),
    )
    return labels, [(pid, camera, index) for pid, camera, index, _ in rows]


def gallery_of(protocol, labels, entries, trial, permutations=None):
    """What all queries together search, as sorted (identity, camera, position)."""
    plan = plan_searches(protocol, labels, labels, trial, permutations)
    rows = np.unique(np.concatenate([search.gallery for search in plan]))
    return sorted(entries[row] for row in rows)


def queries_of(protocol, labels, entries):
    plan = plan_searches(protocol, labels, labels)
    return sorted(entries[row] for search in plan for row in search.queries)


def sysu_images(counts):
    return [
        (camera, int(pid), count, "infrared" if camera in (3, 6) else "visible")
        for pid, images in counts.items()
        for camera, count in enumerate(images, 1)
    ]


def test_sysu_galleries_with_the_real_image_counts(golden):
    for file in golden.names("sysu_gallery_real_counts_*.json"):
        case = golden.json(file)
        assert set(case) == {
            *("note", "mode", "counts", "n_query", "query_first5"),
            *("gallery_order_id_cam", "picked_index_per_trial"),
        }
        assert file == f"sysu_gallery_real_counts_{case['mode']}.json"
        protocol = PROTOCOLS[f"sysu/{case['mode']}_search"]
        labels, entries = shuffled(sysu_images(case["counts"]))
        queries = queries_of(protocol, labels, entries)
        assert len(queries) == case["n_query"]
        first = [[pid, camera] for pid, camera, _ in queries[:5]]
        assert first == case["query_first5"]
        assert len(case["picked_index_per_trial"]) == protocol.trials == NUM_TRIALS
        for trial, picked in enumerate(case["picked_index_per_trial"]):
            expected = [
                (pid, camera, index)
                for (pid, camera), index in zip(case["gallery_order_id_cam"], picked, strict=True)
            ]
            # Identities ascending, cameras ascending: the order of the draws is the sorted one.
            assert expected == sorted(expected)
            assert gallery_of(protocol, labels, entries, trial) == expected


def llcm_images(case):
    """Folders of the listed people."""
    listed = {int(pid) for pid in case["test_id_txt"].split(",")}
    modalities = {"test_vis": "visible", "test_nir": "infrared"}
    folders = []
    for folder, pid, count in case["tree"]:
        kind, camera = folder.split("/")
        if pid in listed:
            folders.append((int(camera.removeprefix("cam")), pid, count, modalities[kind]))
    return folders


def test_llcm_galleries(golden):
    case = golden.json("llcm_gallery_synthetic.json")
    labels, entries = shuffled(llcm_images(case))
    # Mode 1 samples visible images, mode 2 infrared ones; each mode's queries are its own images.
    searched = {1: "llcm/ir2vis", 2: "llcm/vis2ir"}
    asking = {1: "llcm/vis2ir", 2: "llcm/ir2vis"}
    compared = {"tree", "test_id_txt"}
    for mode in (1, 2):
        queries = queries_of(PROTOCOLS[asking[mode]], labels, entries)
        assert len(queries) == case[f"query_mode{mode}_n"]
        every_seventh = [[pid, camera] for pid, camera, _ in queries[::7]]
        assert every_seventh == case[f"query_mode{mode}"]
        compared |= {f"query_mode{mode}", f"query_mode{mode}_n"}
        for trial in range(NUM_TRIALS):
            expected = [tuple(entry) for entry in case[f"gallery_mode{mode}_trial{trial}"]]
            assert gallery_of(PROTOCOLS[searched[mode]], labels, entries, trial) == expected
            compared.add(f"gallery_mode{mode}_trial{trial}")
    assert compared == set(case)


def test_llcm_readme_variant_draws_its_queries_alike(golden):
    case = golden.json("llcm_gallery_synthetic.json")
    labels, entries = shuffled(llcm_images(case))
    protocol = PROTOCOLS["llcm/vis2ir_readme"]
    for trial in range(NUM_TRIALS):
        (search,) = plan_searches(protocol, labels, labels, trial)
        drawn = sorted(entries[row] for row in search.queries)
        assert drawn == [tuple(entry) for entry in case[f"gallery_mode2_trial{trial}"]]
        assert len(search.gallery) == int((labels.modalities == "visible").sum())


@pytest.fixture
def probe(golden):
    return golden.json("sysu_official_perm_probe.json")


@pytest.fixture
def table(probe, tmp_path):
    """A file as the authors' one, with the probed entries and nothing else."""
    cameras = np.empty((6, 1), dtype=object)
    for camera in range(6):
        people = np.empty((533, 1), dtype=object)
        people[:, 0] = [np.empty((0, 0))] * 533
        cameras[camera, 0] = people
    for folder, entry in probe["probe"].items():
        camera, pid = int(folder[3]), int(folder[-4:])
        orders = np.tile(np.arange(1, entry["n_images"] + 1), (NUM_TRIALS, 1)).astype(np.uint8)
        for trial in (0, 9):
            first = entry[f"trial{trial}_first10"]
            rest = np.setdiff1d(orders[trial], first)
            orders[trial] = np.concatenate([first, rest])
        cameras[camera - 1, 0][pid - 1, 0] = orders
    path = tmp_path / "rand_perm_cam.mat"
    savemat(path, {"rand_perm_cam": cameras})
    return Permutations.read(path)


@pytest.mark.parametrize("shots", [1, 10])
@pytest.mark.parametrize("trial", [0, 9])
def test_galleries_of_the_official_table(probe, table, trial, shots):
    assert set(probe) == {"test_ids", "probe"}
    folders = [(3, pid, 2, "infrared") for pid in probe["test_ids"]]
    expected = []
    for folder, entry in probe["probe"].items():
        camera, pid = int(folder[3]), int(folder[-4:])
        folders.append((camera, pid, entry["n_images"], "visible"))
        numbers = entry[f"trial{trial}_first10"][:shots]
        expected += [(pid, camera, number - 1) for number in numbers]
    # Nothing hidden, to see the gallery of camera 2 as well.
    name = f"sysu/all_search{'_multi_shot' if shots > 1 else ''}_official"
    protocol = replace(PROTOCOLS[name], hidden=())
    labels, entries = shuffled(folders)
    assert gallery_of(protocol, labels, entries, trial, table) == sorted(expected)
    # Single shot is the first of multi-shot, and both leave out what the table does not hold.
    assert len(expected) == shots * len(probe["probe"])


def test_all_test_identities_fit_the_table(probe):
    assert len(set(probe["test_ids"])) == len(probe["test_ids"]) == 96
    probed = {int(folder[-4:]) for folder in probe["probe"]}
    assert probed <= set(probe["test_ids"])
