"""Features as they are compared: conversions, lengths, parts, copies only where they have to be."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.errors import FeatureFileError, OutputError
from reid_core.evaluation import l2_normalize
from reid_core.evaluation.parts import l2_normalize_parts
from reid_core.evaluation.tables import feature_matrix
from reid_core.evaluation.tables.feature_matrix import (
    copy_bytes,
    describe_rows,
    load_features,
    survey_rows,
    write_unit_copy,
)
from reid_core.evaluation.tables.feature_table import FeatureRows, FeatureTable, SplitRows

RAW = np.random.default_rng(4).normal(size=(30, 7)).astype(np.float32)
UNIT = l2_normalize(torch.from_numpy(RAW)).numpy()


def rows_of(features, rows=slice(0, 30)):
    paths = np.array([f"{row}.jpg" for row in range(len(features))])
    table = FeatureTable(source=Path("f.npy"), features=features, columns={"path": paths})
    return FeatureRows(table=table, rows=rows)


def load(rows, metric="cosine"):
    return load_features([rows], [survey_rows(rows)], metric)


def mapped(tmp_path, features):
    np.save(tmp_path / "f.npy", features)
    return np.load(tmp_path / "f.npy", mmap_mode="r")


@pytest.fixture(autouse=True, params=[2**24, 100], ids=["one chunk", "many chunks"])
def _chunks(request, monkeypatch):
    monkeypatch.setattr(feature_matrix, "_CHUNK_BYTES", request.param)


def test_rows_are_scaled_to_length_one():
    assert torch.equal(load(rows_of(RAW.copy())), torch.from_numpy(UNIT))


def test_rows_of_length_one_keep_their_bits():
    assert load(rows_of(UNIT)).data_ptr() == UNIT.ctypes.data


def test_each_row_is_judged_by_itself():
    """So a row gives the same numbers whatever is stored beside it."""
    mixed = np.concatenate([RAW[:15], UNIT[15:]])
    assert np.array_equal(load(rows_of(mixed.copy())).numpy(), UNIT)


@pytest.mark.parametrize("metric", ["euclidean", "inner-product"])
def test_other_metrics_scale_nothing(metric):
    assert load(rows_of(RAW), metric).data_ptr() == RAW.ctypes.data


def test_features_in_memory_are_scaled_in_place():
    features = RAW.copy()
    assert load(rows_of(features)).data_ptr() == features.ctypes.data
    assert np.array_equal(features, UNIT)


def test_mapped_rows_of_length_one_are_not_copied(tmp_path, recwarn):
    features = mapped(tmp_path, UNIT)
    rows = rows_of(features, slice(3, 9))
    assert copy_bytes([rows], [survey_rows(rows)], "cosine") == 0
    assert load(rows).data_ptr() == features[3:9].ctypes.data
    assert not recwarn.list


def test_mapped_rows_of_other_lengths_are_copied(tmp_path):
    features = mapped(tmp_path, RAW)
    rows = rows_of(features)
    assert copy_bytes([rows], [survey_rows(rows)], "cosine") == 4 * RAW.size
    assert copy_bytes([rows], [survey_rows(rows)], "euclidean") == 0
    assert np.array_equal(load(rows).numpy(), UNIT)
    assert np.array_equal(features, RAW)


@pytest.mark.parametrize(
    "features",
    [RAW.astype(np.float64), RAW.astype(">f4"), np.asfortranarray(RAW)],
    ids=["float64", "other byte order", "columns first"],
)
def test_other_layouts_are_converted(features):
    rows = rows_of(features)
    assert copy_bytes([rows], [survey_rows(rows)], "cosine") == 4 * RAW.size
    assert np.array_equal(load(rows).numpy(), UNIT)


def test_scattered_rows():
    where = np.array([20, 3, 3, 11])
    assert np.array_equal(load(rows_of(RAW, where)).numpy(), UNIT[where])


def test_parts():
    features = np.random.default_rng(1).normal(size=(30, 5, 3)).astype(np.float32)
    features[4, :, 1] = 0
    rows = rows_of(features)
    survey = survey_rows(rows)
    assert (survey.num_zero, survey.num_scaled, rows.dim, rows.num_parts) == (1, 30, 15, 3)
    assert torch.equal(load(rows), l2_normalize_parts(torch.from_numpy(features)))
    plain = features.transpose(0, 2, 1).reshape(30, 15)
    assert np.array_equal(load(rows, "inner-product").numpy(), plain)


def test_several_tables_one_after_the_other():
    first, second = rows_of(RAW, slice(0, 10)), rows_of(RAW.astype(np.float64), np.arange(10, 30))
    split = SplitRows(parts=(first, second))
    surveys = [survey_rows(part) for part in split.parts]
    assert np.array_equal(load_features(split.parts, surveys, "cosine").numpy(), UNIT)
    cut = split.part(8, 12)
    assert [len(part) for part in cut.parts] == [2, 2]
    assert [cut.place(position)[1] for position in range(4)] == [8, 9, 10, 11]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_rows_that_are_not_finite_are_named(value):
    features = RAW.astype(np.float64)
    features[[5, 29], 2] = value
    with pytest.raises(FeatureFileError, match=re.escape("f.npy, row 5 (5.jpg)")) as error:
        survey_rows(rows_of(features))
    assert "2 of 30 rows" in str(error.value)
    assert "row 29 (29.jpg)" in str(error.value)
    with pytest.raises(FeatureFileError, match=re.escape("row 29 (29.jpg)")):
        survey_rows(rows_of(features, np.array([1, 29])))


def test_what_is_said():
    features = RAW.astype(np.float16)
    features[3] = 0
    rows = rows_of(features)
    notes = describe_rows("gallery", [rows], [survey_rows(rows)], "cosine")
    for note, words in zip(notes, ("float16", "29 of 30 rows scaled", "1 of 30 rows"), strict=True):
        assert words in note
    unit = rows_of(UNIT)
    assert describe_rows("gallery", [unit], [survey_rows(unit)], "cosine") == []


def test_unit_copy(tmp_path):
    rows = rows_of(mapped(tmp_path, RAW.astype(np.float16)))
    path = tmp_path / "new/f.npy"
    write_unit_copy(rows.table, path)
    expected = l2_normalize(torch.from_numpy(RAW.astype(np.float16).astype(np.float32)))
    assert np.array_equal(np.load(path), expected.numpy())
    with pytest.raises(OutputError, match="exists; if it is the copy"):
        write_unit_copy(rows.table, path)
