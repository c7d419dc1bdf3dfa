"""Who searches whom: filters, hidden cameras, draws by files, the authors' table."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reid_core.errors import ProtocolError
from reid_core.evaluation import (
    PROTOCOLS,
    Labels,
    Permutations,
    Protocol,
    per_camera_draw,
    plan_searches,
    single_shot_draws,
)
from reid_core.evaluation.protocols.galleries import labels_under

SYSU = PROTOCOLS["sysu/all_search"]
OFFICIAL = PROTOCOLS["sysu/all_search_official"]


def test_single_shot_draws_are_those_of_the_global_generator():
    pids = np.random.default_rng(0).integers(5, 9, 40).tolist()
    state = random.getstate()
    draws = single_shot_draws(pids, 10)
    assert random.getstate() == state
    random.seed(3)
    for draw in draws:
        expected = [
            random.choice([row for row, other in enumerate(pids) if other == pid])
            for pid in dict.fromkeys(pids)
        ]
        assert draw.tolist() == expected


def folders(rng, num_pids=6, num_cameras=6):
    """Labels of 0 to 13 files per identity and camera, in random order, and their names."""
    rows = [
        (pid, camera, f"{index:02d}.jpg")
        for pid in range(num_pids)
        for camera in range(num_cameras)
        for index in range(rng.integers(0, 14))
    ]
    rows = [rows[place] for place in rng.permutation(len(rows))]
    labels = Labels(
        pids=[pid for pid, _, _ in rows],
        camids=[camera for _, camera, _ in rows],
        paths=tuple(Path(f"cam{camera + 1}", f"{pid:04d}", name) for pid, camera, name in rows),
    )
    return labels, rows


@pytest.mark.parametrize("shots", [1, 10])
def test_draws_per_camera_are_those_of_the_global_generator(shots):
    labels, rows = folders(np.random.default_rng(1))
    state = random.getstate()
    draws = [per_camera_draw(labels, trial, shots) for trial in range(3)]
    assert random.getstate() == state
    for trial, draw in enumerate(draws):
        random.seed(trial)
        expected = []
        for pid in range(6):
            for camera in range(6):
                files = sorted(row for row in rows if row[:2] == (pid, camera))
                if files and shots == 1:
                    expected.append(random.choice(files))
                elif files:
                    expected += random.sample(files, min(shots, len(files)))
        assert [rows[row] for row in draw] == expected


def test_without_paths_draws_go_by_the_list():
    labels = Labels(pids=[4, 3, 4, 3, 4], camids=[0] * 5)
    random.seed(0)
    expected = [random.choice([1, 3]), random.choice([0, 2, 4])]
    assert per_camera_draw(labels, 0).tolist() == expected


def test_sysu_searches():
    labels, _ = folders(np.random.default_rng(2))
    searches = plan_searches(SYSU, labels, labels, trial=4)
    by_camera = {int(labels.camids[search.queries[0]]): search for search in searches}
    assert set(by_camera) == {2, 5}
    whole = by_camera[5].gallery
    assert set(labels.camids[whole]) == {0, 1, 3, 4}
    # One image of each identity and camera.
    keys = np.stack([labels.pids[whole], labels.camids[whole]])
    candidates = np.isin(labels.camids, [0, 1, 3, 4])
    expected = np.unique(np.stack([labels.pids, labels.camids])[:, candidates], axis=1)
    np.testing.assert_array_equal(np.unique(keys, axis=1), expected)
    assert len(whole) == expected.shape[1]
    # Camera 3 does not see camera 2.
    np.testing.assert_array_equal(by_camera[2].gallery, whole[labels.camids[whole] != 1])
    for camera, search in by_camera.items():
        np.testing.assert_array_equal(search.queries, np.flatnonzero(labels.camids == camera))
    other = plan_searches(SYSU, labels, labels, trial=5)
    assert other[-1].gallery.tolist() != searches[-1].gallery.tolist()


def test_indoor_search_only_takes_indoor_cameras():
    labels, _ = folders(np.random.default_rng(2))
    searches = plan_searches(PROTOCOLS["sysu/indoor_search"], labels, labels)
    seen = [set(labels.camids[search.gallery].tolist()) for search in searches]
    assert seen == [{0}, {0, 1}]


def test_modalities_and_drawn_queries():
    rng = np.random.default_rng(3)
    labels, _ = folders(rng)
    labels = replace(labels, modalities=np.where(labels.camids < 3, "visible", "infrared"))
    (search,) = plan_searches(PROTOCOLS["llcm/vis2ir_readme"], labels, labels, trial=1)
    assert set(labels.modalities[search.gallery]) == {"visible"}
    np.testing.assert_array_equal(search.gallery, np.flatnonzero(labels.camids < 3))
    infrared = np.flatnonzero(labels.camids >= 3)
    drawn = infrared[per_camera_draw(labels.take(infrared), 1)]
    np.testing.assert_array_equal(search.queries, np.sort(drawn))
    (reverse,) = plan_searches(PROTOCOLS["llcm/vis2ir"], labels, labels, trial=1)
    np.testing.assert_array_equal(reverse.gallery, search.queries)
    np.testing.assert_array_equal(reverse.queries, search.gallery)


def test_images_of_nobody_are_left_out():
    query, gallery = Labels(pids=[1, -1, 2]), Labels(pids=[-1, 0, 2, -1, 1])
    (search,) = plan_searches(PROTOCOLS["custom/any_camera"], query, gallery)
    assert search.queries.tolist() == [0, 2]
    assert search.gallery.tolist() == [1, 2, 4]


def test_nobody_asks():
    labels = Labels(pids=[1, 2], camids=[0, 1])
    assert plan_searches(SYSU, labels, labels) == ()


def test_single_shot_goes_by_the_order_of_files():
    names = [f"A/{pid:03d}/{index}.jpg" for pid in range(5) for index in range(4)]
    protocol = PROTOCOLS["prcc/cloth_changing_single_shot"]
    query = Labels(pids=[0])

    def drawn(order, trial):
        gallery = Labels(
            pids=[place // 4 for place in order], paths=tuple(Path(names[place]) for place in order)
        )
        (search,) = plan_searches(protocol, query, gallery, trial)
        return sorted(order[row] for row in search.gallery)

    shuffled = np.random.default_rng(0).permutation(20).tolist()
    for trial in range(10):
        expected = single_shot_draws([place // 4 for place in range(20)], 10)[trial]
        assert drawn(list(range(20)), trial) == expected.tolist()
        assert drawn(shuffled, trial) == expected.tolist()


def test_cameras_by_position():
    labels = Labels(pids=[1, 2, 3], camids=[7, 7, 7], paths=(Path("c"), Path("a"), Path("b")))
    protocol = PROTOCOLS["celeb/official_cameras"]
    assert labels_under(protocol, labels).camids.tolist() == [2, 0, 1]
    assert labels_under(protocol, Labels(pids=[1, 2])).camids.tolist() == [0, 1]
    assert labels_under(PROTOCOLS["celeb/standard"], labels) is labels


def matlab_cells(cells, num_pids=12, num_cameras=6):
    """The variable of the authors' file from (camera from 0, identity) to rows."""
    cameras = np.empty((num_cameras, 1), dtype=object)
    for camera in range(num_cameras):
        people = np.empty((num_pids, 1), dtype=object)
        for pid in range(num_pids):
            people[pid, 0] = cells.get((camera, pid + 1), np.empty((0, 0)))
        cameras[camera, 0] = people
    return cameras


@pytest.fixture
def table_of(tmp_path):
    def table(content, name="rand_perm_cam"):
        path = tmp_path / "table.mat"
        savemat(path, {name: content})
        return path

    return table


def permuted_rows(count, trials=10, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(count) + 1 for _ in range(trials)]).astype(np.uint8)


def test_official_draws(table_of):
    cells = {(0, 3): permuted_rows(4), (1, 3): permuted_rows(13, seed=1), (3, 8): permuted_rows(1)}
    permutations = Permutations.read(table_of(matlab_cells(cells)))
    assert set(permutations.cells) == set(cells)
    rows = [(3, 2, 0)] + [
        (pid, camera, index)
        for (camera, pid), orders in cells.items()
        for index in range(orders.shape[1])
    ]
    labels = Labels(pids=[row[0] for row in rows], camids=[row[1] for row in rows])
    protocol = replace(OFFICIAL, hidden=())
    for trial in (0, 7):
        for shots in (1, 10):
            (search,) = plan_searches(
                replace(protocol, shots=shots), labels, labels, trial, permutations
            )
            expected = [
                (pid, camera, number - 1)
                for (camera, pid), orders in cells.items()
                for number in orders[trial, :shots].tolist()
            ]
            assert sorted(rows[row] for row in search.gallery) == sorted(expected)


def one_image_each(camera=0, pid=3, count=4):
    return Labels(pids=[pid] * (count + 1), camids=[camera] * count + [2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (one_image_each(count=5), r"lists 4 images of cam1/0003, but there are 5; extract"),
        (one_image_each(pid=4), r"does not list cam1/0004, of which there are 4 images"),
        (one_image_each(camera=4), r"does not list cam5/0003"),
    ],
)
def test_a_table_of_other_images(table_of, labels, message):
    permutations = Permutations.read(table_of(matlab_cells({(0, 3): permuted_rows(4)})))
    with pytest.raises(ProtocolError, match=message):
        plan_searches(OFFICIAL, labels, labels, 0, permutations)


def test_a_table_of_fewer_trials(table_of):
    permutations = Permutations.read(table_of(matlab_cells({(0, 3): permuted_rows(4, trials=2)})))
    labels = one_image_each()
    plan_searches(OFFICIAL, labels, labels, 1, permutations)
    with pytest.raises(ProtocolError, match="holds 2 trials of cam1/0003; trial 3 is wanted"):
        plan_searches(OFFICIAL, labels, labels, 2, permutations)


def test_the_table_has_to_be_given():
    labels = one_image_each()
    with pytest.raises(
        ProtocolError, match=r"sysu/all_search_official draws .*/rand_perm_cam\.mat"
    ):
        plan_searches(OFFICIAL, labels, labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.eye(3), "must be a cell per camera, in it a cell per identity, not float64"),
        (matlab_cells({(0, 3): np.array([[1, 1, 3]])}), "camera 1, identity 3 is no list of perm"),
        (matlab_cells({(1, 2): np.array([[0, 1, 2]])}), r"camera 2, identity 2 .* of 1\.\.3"),
    ],
)
def test_tables_of_another_content(table_of, content, message):
    with pytest.raises(ProtocolError, match=message):
        Permutations.read(table_of(content))


def test_files_that_are_no_table(table_of, tmp_path):
    with pytest.raises(ProtocolError, match="it holds no variable 'rand_perm_cam'"):
        Permutations.read(table_of(np.eye(2), name="other"))
    (tmp_path / "text.mat").write_text("nothing of the kind " * 20)
    with pytest.raises(ProtocolError, match="it is no MATLAB file"):
        Permutations.read(tmp_path / "text.mat")
    (tmp_path / "empty.mat").write_bytes(b"")
    with pytest.raises(ProtocolError, match="it is no MATLAB file"):
        Permutations.read(tmp_path / "empty.mat")
    whole = table_of(matlab_cells({(0, 3): permuted_rows(4)})).read_bytes()
    for length in range(200, len(whole), 50):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(ProtocolError):
            Permutations.read(tmp_path / "cut.mat")
    with pytest.raises(ProtocolError, match=r"cannot read .*nowhere\.mat: No such file"):
        Permutations.read(tmp_path / "nowhere.mat")


def test_hidden_cameras_by_groups():
    """Several cameras that do not see several others."""
    protocol = Protocol(name="custom/x", match="any_camera", hidden=((0, 1), (0, 2), (3, 0)))
    query = Labels(pids=[0] * 4, camids=[0, 3, 1, 0])
    gallery = Labels(pids=[0] * 4, camids=[0, 1, 2, 3])
    found = [
        (search.queries.tolist(), search.gallery.tolist())
        for search in plan_searches(protocol, query, gallery)
    ]
    assert found == [([0, 3], [0, 3]), ([1], [1, 2, 3]), ([2], [0, 1, 2, 3])]
