"""Files of features: formats, names of arrays, splits, and every message about bad ones."""

import re

import numpy as np
import pytest

from reid_core.errors import FeatureFileError, ProtocolError
from reid_core.evaluation import PROTOCOLS
from reid_core.evaluation.tables.feature_files import read_feature_files
from reid_core.evaluation.tables.feature_readers import read_feature_tables
from reid_core.evaluation.tables.feature_splits import FeatureFiles
from reid_core.evaluation.tables.feature_table import FeatureTable
from reid_core.evaluation.tables.label_columns import COLUMNS
from reid_core.evaluation.tables.label_table import read_label_table

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
PIDS = np.array([7, 7, 8, 9])


def save(folder, name="f.npz", **arrays):
    path = folder / name
    np.savez(path, **arrays)
    return path


def read(*args):
    return FeatureFiles(read_feature_files(*args))


def write(folder, text, name="l.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def npy(folder, features=FEATURES, name="f.npy"):
    np.save(folder / name, features)
    return folder / name


# ------------------------------------------------------------------ names and formats


@pytest.mark.parametrize(
    ("column", "spelling"),
    [(column, name) for column, others in COLUMNS.items() for name in (column, *others)],
)
def test_every_spelling_is_read(tmp_path, column, spelling):
    arrays = {
        "features": FEATURES,
        "pid": PIDS,
        "camid": PIDS,
        "clothes_id": PIDS,
        "path": np.array(["a", "b", "c", "d"]),
        "modality": np.array(["visible"] * 4),
        "split": np.array(["query"] * 4),
    }
    arrays[spelling.upper()] = arrays.pop(column)
    (table,) = read_feature_tables(save(tmp_path, **arrays))
    assert set(table.columns) == set(COLUMNS) - {"features"}
    np.testing.assert_array_equal(table.features, FEATURES)


@pytest.mark.parametrize(
    "names",
    [
        ("qf", "q_pids", "gf", "g_pids"),
        ("query_f", "query_label", "gallery_f", "gallery_label"),
        ("query_features", "query_pid", "gallery_features", "gallery_pid"),
    ],
)
def test_two_lists_in_one_file(tmp_path, names):
    arrays = (FEATURES[:1], PIDS[:1], FEATURES[1:], PIDS[1:])
    files = read([save(tmp_path, **dict(zip(names, arrays, strict=True)))])
    assert [table.role for table in files.tables] == ["query", "gallery"]
    splits = files.splits_of(PROTOCOLS["market1501/standard"])
    assert splits["query"].column("pid").tolist() == [7]
    assert splits["gallery"].column("pid").tolist() == [7, 8, 9]


def test_an_own_name_goes_before_another_one(tmp_path):
    (table,) = read_feature_tables(save(tmp_path, features=FEATURES, id=np.arange(4), pid=PIDS))
    assert table.columns["pid"].tolist() == PIDS.tolist()
    assert table.notes == ("arrays not used: id",)


def test_npy_is_mapped(tmp_path):
    labels = write(tmp_path, "path,pid,camid\n" + "a.jpg,1,0\n" * 4)
    (table,) = read_feature_tables(npy(tmp_path), labels)
    assert isinstance(table.features, np.memmap)
    assert table.is_mapped
    assert table.columns["path"][0] == "a.jpg"
    assert table.root == tmp_path


def test_vectors_of_matlab_shape(tmp_path):
    (table,) = read_feature_tables(save(tmp_path, features=FEATURES, pid=PIDS[None]))
    assert table.columns["pid"].tolist() == PIDS.tolist()


def test_a_table_may_begin_with_a_byte_order_mark_and_be_empty_between(tmp_path):
    text = "\ufeffpid, camid ,colour\r\n1,0,red\r\n\r\n2,1,blue\r\n"
    table = read_label_table(write(tmp_path, text))
    assert table.columns["pid"].tolist() == [1, 2]
    assert table.columns["camid"].tolist() == [0, 1]
    assert table.lines.tolist() == [2, 4]
    assert "colour" in table.notes[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1.0, 2.0, 3.0, 4.0]), [1, 2, 3, 4]),
        (np.array(["1", " 2", "3.0", "4"]), [1, 2, 3, 4]),
        (np.array([b"1", b"2", b"3", b"4"]), [1, 2, 3, 4]),
        (np.array([1, 2, 3, 4], dtype=np.uint8), [1, 2, 3, 4]),
        (np.array(["Bob", "Ann", "Bob", "Cy"]), [1, 0, 1, 2]),
        (np.array(["1_11", "11_1", "1_11", "2_0"]), [1, 0, 1, 2]),
    ],
)
def test_identities(tmp_path, values, expected):
    files = read([save(tmp_path, features=FEATURES, pid=values)])
    assert files.tables[0].columns["pid"].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([3.0, np.nan, 4.0, 3.0]), [3, -1, 4, 3]),
        (np.array(["3", "", "4", "3"]), [3, -1, 4, 3]),
        (np.array(["red", "", "blue", "red"]), [2, -1, 1, 2]),
    ],
)
def test_unknown_outfits(tmp_path, values, expected):
    path = save(tmp_path, features=FEATURES, pid=PIDS, clothes_id=values)
    assert read([path]).tables[0].columns["clothes_id"].tolist() == expected


def test_names_are_numbered_over_both_files(tmp_path):
    query = save(tmp_path, "q.npz", features=FEATURES, pid=np.array(["b", "b", "d", "d"]))
    gallery = save(tmp_path, "g.npz", features=FEATURES, pid=np.array(["d", "c", "b", "a"]))
    files = read([query, gallery])
    found = [table.columns["pid"].tolist() for table in files.tables]
    assert found == [[1, 1, 3, 3], [3, 2, 1, 0]]
    assert any("names" in note for note in files.notes)


def test_modalities(tmp_path):
    path = save(
        tmp_path, features=FEATURES, pid=PIDS, modality=np.array(["RGB", "ir", "visible", "nir"])
    )
    (table,) = read_feature_tables(path)
    assert table.columns["modality"].tolist() == ["visible", "infrared"] * 2


def test_parquet_as_embed_writes_it(tmp_path):
    pytest.importorskip("pyarrow")
    from reid_core.commands.embed import write_features

    arrays = {"features": FEATURES, "path": np.array(["a", "b", "c", "d"]), "pid": PIDS}
    write_features(tmp_path / "f.parquet", arrays)
    (table,) = read_feature_tables(tmp_path / "f.parquet")
    np.testing.assert_array_equal(table.features, FEATURES)
    assert table.columns["pid"].tolist() == PIDS.tolist()
    assert table.columns["path"].tolist() == ["a", "b", "c", "d"]


# ------------------------------------------------------------------ splits


def files_of(split=None, roles=("",), **columns):
    tables = []
    for role in roles:
        own = {"pid": PIDS, **columns, **({} if split is None else {"split": np.array(split)})}
        tables.append(FeatureTable(source=role or "f", features=FEATURES, columns=own, role=role))
    return FeatureFiles(tables)


def test_consecutive_rows_are_no_copy():
    files = files_of(["train", "query", "gallery", "gallery"])
    splits = files.splits_of(PROTOCOLS["custom/standard"])
    assert splits["gallery"].parts[0].rows == slice(2, 4)
    assert splits["query"].parts[0].rows == slice(1, 2)
    assert splits["gallery"].place(1) == (files.tables[0], 3)
    assert files.names_present() == "gallery (2), query (1), train (1)"


def test_scattered_rows():
    splits = files_of(["gallery", "query", "gallery", "query"]).splits_of(
        PROTOCOLS["custom/standard"]
    )
    assert splits["gallery"].parts[0].rows.tolist() == [0, 2]
    assert splits["gallery"].column("pid").tolist() == [7, 8]


def test_missing_splits_are_left_out():
    assert files_of(["train"] * 4).splits_of(PROTOCOLS["custom/standard"]) == {}


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (files_of(["test", "test", "train", "test"]), 3),
        (files_of(["query", "gallery", "train", "query"]), 3),
        (files_of(), 4),
        (files_of(roles=("query", "gallery")), 8),
    ],
    ids=["by name", "query and gallery", "one file", "two files"],
)
def test_a_protocol_of_one_split(files, count):
    splits = files.splits_of(PROTOCOLS["sysu/all_search"])
    assert len(splits["test"]) == len(splits["test"].column("pid")) == count


def test_two_files_are_the_splits_of_any_protocol():
    splits = files_of(roles=("query", "gallery")).splits_of(PROTOCOLS["prcc/same_clothes"])
    assert list(splits) == ["query_same", "gallery"]


def test_lists_of_trials():
    protocol = PROTOCOLS["regdb/visible_to_thermal"]
    assert list(files_of(["test_1", "test_1", "test_4", "x"]).splits_of(protocol)) == [
        "test_1",
        "test_4",
    ]
    assert list(files_of().splits_of(protocol)) == ["test_1"]


def test_cameras_are_counted_from_zero():
    table = FeatureTable(
        source="f", features=FEATURES, columns={"pid": PIDS, "camid": np.array([1, 2, 6, -1])}
    )
    assert FeatureFiles([table], camid_base=1).tables[0].columns["camid"].tolist() == [0, 1, 5, -1]
    with pytest.raises(FeatureFileError, match=re.escape("row 0: camid 1 is below 2")):
        FeatureFiles([table], camid_base=2)


@pytest.mark.parametrize(
    ("camids", "message"),
    [
        ([1, 2, 3, 6], "add --camid-base 1"),
        ([0, 2, 3, 6], "not the cameras of this data set"),
        ([100, 2, 3, 6], "not the cameras of this data set"),
        (["a", "b", "c", "d"], "camid holds names"),
    ],
)
def test_cameras_that_are_not_those_of_the_data_set(camids, message):
    files = files_of(camid=np.array(camids))
    with pytest.raises(ProtocolError, match=message):
        files.check_cameras(PROTOCOLS["sysu/all_search"])
    files.check_cameras(PROTOCOLS["custom/standard"])


# ------------------------------------------------------------------ messages


NPZ_ERRORS = {
    "no features": ({"x": FEATURES, "pid": PIDS}, "has no array 'features' (it has: x, pid)"),
    "no identities": ({"features": FEATURES}, "has no pid"),
    "length": (
        {"features": FEATURES, "pid": PIDS[:3]},
        "pid has shape (3,) but features have shape (4, 3)",
    ),
    "objects": (
        {"features": FEATURES, "pid": np.array([1, "a", None, 2], dtype=object)},
        "the array 'pid' holds Python objects",
    ),
    "twice": ({"feats": FEATURES, "feat": FEATURES, "pid": PIDS}, "twice, as 'feats' and 'feat'"),
    "mixed prefixes": (
        {"qf": FEATURES, "q_pids": PIDS, "camids": PIDS},
        "without such a prefix (camids)",
    ),
    "labels of a missing list": ({"qf": FEATURES, "q_pid": PIDS, "g_pid": PIDS}, "no gallery_feat"),
    "text": ({"features": np.array([["a"]] * 4), "pid": PIDS}, "features are <U1"),
    "complex": ({"features": FEATURES + 1j, "pid": PIDS}, "features are complex"),
    "one dimension": ({"features": FEATURES[:, 0], "pid": PIDS}, "features have shape (4,)"),
    "no dimensions": ({"features": FEATURES[:, :0], "pid": PIDS}, "features have shape (4, 0)"),
    "no rows": ({"features": FEATURES[:0], "pid": PIDS[:0]}, "holds no rows"),
    "fraction": ({"features": FEATURES, "pid": PIDS + 0.5}, "pid 7.5 in row 0 is not an integer"),
    "identity NaN": (
        {"features": FEATURES, "pid": np.array([1, np.nan, 2, np.nan])},
        "pid nan in row 1 is not an integer (2 such rows)",
    ),
    "boolean": ({"features": FEATURES, "pid": PIDS > 7}, "pid holds bool values"),
    "mixed": (
        {"features": FEATURES, "pid": np.array(["1", "2", "3x", "4"])},
        "pid '3x' in row 2 is not an integer, though others are",
    ),
    "empty name": (
        {"features": FEATURES, "camid": np.array(["a", "", "b", "c"]), "pid": PIDS},
        "camid is empty in row 1",
    ),
    "modality": (
        {"features": FEATURES, "pid": PIDS, "modality": np.array(["rgb", "ir", "sketch", "ir"])},
        "modality 'sketch' in row 2",
    ),
    "modality as a number": (
        {"features": FEATURES, "pid": PIDS, "modality": PIDS},
        "modality holds int64 values; visible or infrared is expected",
    ),
    "split as a number": (
        {"features": FEATURES, "pid": PIDS, "split": PIDS},
        "split holds int64 values; text is expected",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), NPZ_ERRORS.values(), ids=NPZ_ERRORS)
def test_bad_npz(tmp_path, arrays, message):
    path = save(tmp_path, **arrays)
    with pytest.raises(FeatureFileError, match=re.escape(message)) as error:
        read_feature_tables(path)
    assert str(path) in str(error.value)


CSV_ERRORS = {
    "empty": ("", "no column pid"),
    "no rows": ("pid,camid\n", "a first line but no rows"),
    "semicolons": ("pid;camid\n1;2\n", "its first line is 'pid;camid'"),
    "twice": ("pid,camid,pid\n1,2,3\n", "twice, as 'pid' and 'pid'"),
    "too many fields": ("pid,camid\n1,2\n1,2,3\n", "line 3: 3 fields"),
    "too few fields": ("pid,camid\n1\n", "line 2: 1 fields"),
    "quote": ('pid,camid\n1,2\n"1,2\n', "line 3: not a line"),
    "fraction": ("pid,camid\n1,2\n\n1.5,2\n", "pid 1.5 in line 4"),
    "name": ("pid,camid\n1,2\n1,two\n", "camid 'two' in line 3"),
    "empty value": ("pid,camid\n1,2\n,2\n", "pid '' in line 3"),
    "no UTF-8": (b"pid,camid\n\xff\xfe,1\n", "not a comma-separated UTF-8 table"),
    "length": ("pid\n1\n2\n", "4 rows of features but"),
}


@pytest.mark.parametrize(("text", "message"), CSV_ERRORS.values(), ids=CSV_ERRORS)
def test_bad_table(tmp_path, text, message):
    labels = write(tmp_path, text)
    with pytest.raises(FeatureFileError, match=re.escape(message)) as error:
        read_feature_tables(npy(tmp_path), labels)
    assert str(labels) in str(error.value)


def test_bad_files(tmp_path):
    labels = write(tmp_path, "pid\n1\n")
    cases = [
        (tmp_path / "gone.npz", None, "does not exist"),
        (tmp_path, None, "is a folder"),
        (write(tmp_path, "x", "f.pt"), None, ".pt is not read, but .npz"),
        (write(tmp_path, "x", "f"), None, "no suffix is not read"),
        (write(tmp_path, "x", "t.npz"), None, "no .npz archive of arrays"),
        (write(tmp_path, b"", "e.npz"), None, "no .npz archive of arrays"),
        (write(tmp_path, "x", "t.npy"), labels, "no .npy file of numbers"),
        (npy(tmp_path), None, "give their labels with --labels"),
        (npy(tmp_path), tmp_path / "gone.csv", "cannot read the labels"),
        (npy(tmp_path, np.array([None, 1]), "o.npy"), labels, "holds Python objects"),
        (write(tmp_path, save(tmp_path, features=FEATURES).read_bytes(), "z.npy"), labels, ".npz"),
    ]
    for path, table, message in cases:
        with pytest.raises(FeatureFileError, match=re.escape(message)):
            read_feature_tables(path, table)


def test_labels_in_another_order(tmp_path):
    images = np.array([f"photos/{row}.jpg" for row in range(len(FEATURES))])
    path = save(tmp_path, features=FEATURES, path=images)
    table = tmp_path / "labels.csv"
    lines = [f"elsewhere/{row}.jpg,{row}\n" for row in range(len(FEATURES))]
    table.write_text("path,pid\n" + "".join(lines))
    assert len(read([path], [table]).tables[0]) == len(FEATURES)
    table.write_text("path,pid\n" + "".join(reversed(lines)))
    with pytest.raises(FeatureFileError, match=r"row 0 of .* lists elsewhere/3\.jpg there"):
        read([path], [table])


def test_truncated_archive(tmp_path):
    path = save(tmp_path, features=np.zeros((500, 50)), pid=np.zeros(500, int))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(FeatureFileError, match=r"no \.npz archive"):
        read_feature_tables(path)


def test_bad_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    lists = pa.array([[1.0, 2.0], [3.0]])
    cases = [
        ({"features": lists, "pid": [1, 2]}, "row 1 has 1 features, row 0 has 2"),
        ({"features": [1.0, 2.0], "pid": [1, 2]}, "a list of numbers is expected"),
        ({"features": [[1.0], [2.0]], "pid": [1, None]}, "pid is empty in row 1"),
        ({"qf": [[1.0], [2.0]], "q_pid": [1, 2]}, "in place of qf, q_pid"),
    ]
    for columns, message in cases:
        pq.write_table(pa.table(columns), tmp_path / "f.parquet")
        with pytest.raises(FeatureFileError, match=re.escape(message)):
            read_feature_tables(tmp_path / "f.parquet")
    (tmp_path / "f.parquet").write_text("no parquet")
    with pytest.raises(FeatureFileError, match="no parquet file"):
        read_feature_tables(tmp_path / "f.parquet")


def test_files_that_do_not_go_together(tmp_path):
    plain = save(tmp_path, "a.npz", features=FEATURES, pid=PIDS)
    wide = save(tmp_path, "b.npz", features=np.ones((4, 5)), pid=PIDS)
    split = save(tmp_path, "c.npz", features=FEATURES, pid=PIDS, split=np.array(["query"] * 4))
    names = save(tmp_path, "d.npz", features=FEATURES, pid=np.array(list("abcd")))
    both = save(tmp_path, "e.npz", qf=FEATURES, q_pid=PIDS, gf=FEATURES, g_pid=PIDS)
    queries = save(tmp_path, "g.npz", qf=FEATURES, q_pid=PIDS)
    labels = write(tmp_path, "pid\n" + "1\n" * 4)
    cases = [
        ([], [], "0 files of features"),
        ([plain] * 3, [], "3 files of features"),
        ([plain, plain], [labels], "2 files of features but 1 tables"),
        ([plain, wide], [], "features differ in size"),
        ([plain, split], [], "only"),
        ([plain, names], [], "pid: one file has numbers and the other names"),
        ([both, plain], [], "holds queries and gallery already"),
        ([plain, queries], [], "give the queries first"),
        ([both], [labels], "cannot be the labels"),
    ]
    for paths, tables, message in cases:
        with pytest.raises(FeatureFileError, match=re.escape(message)):
            read(paths, tables)


def test_one_file_without_splits():
    with pytest.raises(ProtocolError, match="nothing says which rows are which"):
        files_of().splits_of(PROTOCOLS["custom/standard"])
