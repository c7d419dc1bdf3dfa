"""Bad input to the readers: each case ends in one message that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from reid_core.data import find_dataset, fingerprint, load_dataset, require_trainable
from reid_core.data.readers.ccvid import read_ccvid
from reid_core.errors import ConfigError, DatasetError, DatasetNotFoundError, ReIDError
from reid_core.testing.miniatures import write_images, write_miniature


class Case(NamedTuple):
    """A way to spoil a data set: prepare(tmp_path) returns the root to load."""

    name: str
    dataset: str
    prepare: Callable[[Path], Path]
    error: type[ReIDError]
    fragments: tuple[str, ...]


def spoil(name: str, change: Callable[[Path], object], below: str = "") -> Callable[[Path], Path]:
    """Write a miniature, change its own folder, return the root (or a folder below it)."""

    def prepare(tmp_path: Path) -> Path:
        own = write_miniature(name, tmp_path)
        change(own)
        return tmp_path / below

    return prepare


def untouched(own: Path) -> None:
    """Leave the miniature as it is."""


def empty_folder(tmp_path: Path) -> Path:
    (tmp_path / "void").mkdir()
    return tmp_path / "void"


def with_strangers(tmp_path: Path) -> Path:
    write_images(tmp_path, ["Market-1501/x.jpg", *(f"n{index}.txt" for index in range(12))])
    return tmp_path


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "ltcc.zip").touch()
    return tmp_path / "ltcc.zip"


def empty_split(folder: str) -> Callable[[Path], None]:
    def change(own: Path) -> None:
        shutil.rmtree(own / folder)
        (own / folder).mkdir()
        (own / folder / "list.txt").touch()

    return change


def sort_queries_by_person(own: Path) -> None:
    (own / "query/010").mkdir()
    for path in sorted(own.glob("query/*.png")):
        path.rename(own / "query/010" / path.name)


def rename_queries(own: Path) -> None:
    for index, path in enumerate(sorted(own.glob("query/*.jpg"))):
        path.rename(own / f"query/{index}.jpg")


def table(text: str | bytes) -> Callable[[Path], Path]:
    def prepare(tmp_path: Path) -> Path:
        write_images(tmp_path, ["a.jpg"])
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "t.csv").write_bytes(data)
        return tmp_path / "t.csv"

    return prepare


def images(*names: str) -> Callable[[Path], Path]:
    def prepare(tmp_path: Path) -> Path:
        write_images(tmp_path, names)
        return tmp_path

    return prepare


def ltcc_misnamed(count: int) -> Callable[[Path], object]:
    return lambda own: write_images(own, [f"train/IMG_{index:04d}.png" for index in range(count)])


LTCC_TREE = ("ROOT/LTCC_ReID/", "train/001_1_c4_015175.png", "https://naiq.github.io")

CASES = [
    Case(
        "folder does not exist",
        "ltcc",
        lambda tmp_path: tmp_path / "nope" / "deeper",
        DatasetNotFoundError,
        ("LTCC was not found in", "nope", "The folder does not exist", "it is empty", *LTCC_TREE),
    ),
    Case(
        "folder is empty", "ltcc", empty_folder, DatasetNotFoundError, ("it is empty", *LTCC_TREE)
    ),
    Case(
        "folder holds other things",
        "prcc",
        with_strangers,
        DatasetNotFoundError,
        ("Missing: prcc/", "Market-1501/", "n0.txt", "(13 entries)", "ROOT/prcc/"),
    ),
    Case("root is a file", "ltcc", a_file, DatasetNotFoundError, ("ltcc.zip", "That is a file")),
    Case(
        "one level too low",
        "ltcc",
        spoil("ltcc", untouched, "LTCC_ReID/train"),
        DatasetNotFoundError,
        ("too low", "LTCC_ReID instead"),
    ),
    Case(
        "two levels too low",
        "prcc",
        spoil("prcc", untouched, "prcc/rgb/train"),
        DatasetNotFoundError,
        ("too low", "prcc instead"),
    ),
    Case(
        "one level too high",
        "ltcc",
        lambda tmp_path: write_miniature("ltcc", tmp_path / "datasets").parent.parent,
        DatasetNotFoundError,
        ("one level too high", "datasets"),
    ),
    Case(
        "renamed folder one level down",
        "ltcc",
        lambda tmp_path: write_miniature("ltcc", tmp_path).rename(tmp_path / "mine").parent,
        DatasetNotFoundError,
        ("one level too high", "mine instead"),
    ),
    Case(
        "another data set",
        "vcclothes",
        spoil("ltcc", untouched, "LTCC_ReID"),
        DatasetNotFoundError,
        ("It lacks gallery", "looks like ltcc", "--dataset"),
    ),
    Case(
        "a split folder is missing",
        "ltcc",
        spoil("ltcc", lambda own: shutil.rmtree(own / "query")),
        DatasetNotFoundError,
        ("LTCC_ReID/ is there, but it lacks query", "test/, train/"),
    ),
    Case(
        "a list is missing",
        "deepchange",
        spoil("deepchange", lambda own: (own / "train-set-bbox.txt").unlink()),
        DatasetNotFoundError,
        ("lacks train-set-bbox.txt",),
    ),
    Case(
        "both folders of a gallery are missing",
        "ltcc",
        spoil("ltcc", lambda own: shutil.rmtree(own / "test")),
        DatasetNotFoundError,
        ("LTCC_ReID/ is there, but it lacks test or gallery",),
    ),
    Case(
        "unknown person",
        "celeb",
        spoil("celeb", lambda own: write_images(own, ["query/633_1_0.jpg"])),
        DatasetError,
        ("query/633_1_0.jpg", "<person, 1 to 632>_<image>_<number>.jpg, e.g. 1_1_0.jpg"),
    ),
    Case(
        "empty training split",
        "ltcc",
        spoil("ltcc", empty_split("train")),
        DatasetError,
        ("no images in", "train", "found there: list.txt", "<pid>_<outfit>_c<camera>"),
    ),
    Case(
        "empty gallery of persons",
        "prcc",
        spoil("prcc", empty_split("rgb/test/A")),
        DatasetError,
        ("no images in", "its subfolders hold no file called <pid>/<frame>.jpg"),
    ),
    Case(
        "images sorted into folders",
        "ltcc",
        spoil("ltcc", sort_queries_by_person),
        DatasetError,
        ("no images in", "query", "found there: 010/"),
    ),
    Case(
        "validation without gallery",
        "last",
        spoil("last", lambda own: shutil.rmtree(own / "val/gallery")),
        DatasetError,
        ("cannot list the folder", "val", "gallery"),
    ),
    Case(
        "one misnamed file",
        "ltcc",
        spoil("ltcc", ltcc_misnamed(1)),
        DatasetError,
        ("1 image file in", "train/IMG_0000.png", "e.g. 001_1_c4_015175.png", "Rename them"),
    ),
    Case(
        "many misnamed files",
        "ltcc",
        spoil("ltcc", ltcc_misnamed(1200)),
        DatasetError,
        ("1,200 image files", "train/IMG_0004.png", "\n  ...\n"),
    ),
    Case(
        "camera zero",
        "ltcc",
        spoil("ltcc", lambda own: write_images(own, ["test/001_1_c0_1.png"])),
        DatasetError,
        ("test/001_1_c0_1.png",),
    ),
    Case(
        "all files of a split misnamed",
        "vcclothes",
        spoil("vcclothes", rename_queries),
        DatasetError,
        ("query/0.jpg", "0001-01-02-03.jpg"),
    ),
    Case(
        "fourth camera in training",
        "prcc",
        spoil("prcc", lambda own: write_images(own, ["rgb/train/001/D_1.jpg"])),
        DatasetError,
        ("rgb/train/001/D_1.jpg", "<pid>/<A|B|C>_<frame>.jpg"),
    ),
    Case(
        "person without a number",
        "prcc",
        spoil("prcc", lambda own: write_images(own, ["rgb/test/B/anna/1.jpg"])),
        DatasetError,
        ("rgb/test/B/anna/1.jpg", "<pid>/<frame>.jpg"),
    ),
    Case(
        "no outfit in a training name",
        "last",
        spoil("last", lambda own: write_images(own, ["train/000000/000000.jpg"])),
        DatasetError,
        ("train/000000/000000.jpg", "<pid>_..._<outfit>.jpg"),
    ),
    Case(
        "cameras of a mode absent",
        "vcclothes_sc",
        spoil("vcclothes", lambda own: [p.unlink() for p in own.glob("gallery/0300-0[23]*")]),
        DatasetError,
        ("no images for gallery",),
    ),
    Case(
        "listed image absent",
        "deepchange",
        spoil("deepchange", lambda own: (own / "train-set/P1_C1_S3_2470.jpg").unlink()),
        DatasetError,
        ("train-set-bbox.txt lists images that", "(1 of 2)", "P1_C1_S3_2470.jpg", "extract"),
    ),
    Case(
        "list with a bad line",
        "deepchange",
        spoil(
            "deepchange", lambda own: (own / "train-set-bbox.txt").write_text("\nP1_C1_S3_1.jpg\n")
        ),
        DatasetError,
        ("train-set-bbox.txt, line 2", "'P1_C1_S3_1.jpg' is not <image>,<tracklet number>"),
    ),
    Case(
        "list that is no text",
        "deepchange",
        spoil("deepchange", lambda own: (own / "train-set-bbox.txt").write_bytes(b"\xff\xfe\x00")),
        DatasetError,
        ("cannot read the list", "not a text file"),
    ),
    Case(
        "empty list",
        "deepchange",
        spoil("deepchange", lambda own: (own / "test-set-query-bbox.txt").write_text("")),
        DatasetError,
        ("no images for query",),
    ),
    Case(
        "list with a misnamed image",
        "deepchange",
        spoil("deepchange", lambda own: (own / "train-set-bbox.txt").write_text("x.jpg,1\n")),
        DatasetError,
        ("train-set/x.jpg", "P1_C1_S3_2470.jpg"),
    ),
    Case(
        "unknown name",
        "lttc",
        empty_folder,
        ConfigError,
        ("data set 'lttc' is unknown", "did you mean 'ltcc'", "folder, csv"),
    ),
    Case("unlike any name", "cuhk", empty_folder, ConfigError, ("'cuhk' is unknown; known are",)),
    Case(
        "folder: does not exist",
        "folder",
        lambda tmp_path: tmp_path / "nope",
        DatasetNotFoundError,
        ("nope does not exist", "train/<person>/*.jpg"),
    ),
    Case("folder: empty", "folder", empty_folder, DatasetNotFoundError, ("no images in folders",)),
    Case(
        "folder: one level too high",
        "folder",
        lambda tmp_path: write_miniature("folder", tmp_path / "own").parent,
        DatasetNotFoundError,
        ("one level too high", "own instead"),
    ),
    Case(
        "folder: splits of another layout",
        "folder",
        images("bounding_box_train/a/1.jpg", "val/a/1.jpg"),
        DatasetNotFoundError,
        ("holds bounding_box_train, val", "splits are called train, query, gallery"),
    ),
    Case(
        "folder: empty split",
        "folder",
        spoil("folder", empty_split("gallery")),
        DatasetError,
        ("no images in", "gallery", "found there: list.txt"),
    ),
    Case(
        "folder: image outside a person's folder",
        "folder",
        spoil("folder", lambda own: write_images(own, ["query/stray.jpg"])),
        DatasetError,
        ("query/stray.jpg", "<person>/<image>.jpg"),
    ),
    Case(
        "csv: does not exist",
        "csv",
        lambda tmp_path: tmp_path / "t.csv",
        DatasetNotFoundError,
        ("t.csv does not exist", "path,pid,camid"),
    ),
    Case(
        "csv: a folder instead",
        "csv",
        lambda tmp_path: table("path,pid\n")(tmp_path).parent,
        DatasetNotFoundError,
        ("is a folder", "tables in it: t.csv"),
    ),
    Case("csv: empty file", "csv", table(""), DatasetError, ("no column path and pid",)),
    Case("csv: no rows", "csv", table("path,pid\n"), DatasetError, ("no rows",)),
    Case("csv: semicolons", "csv", table("path;pid\na.jpg;1\n"), DatasetError, ("'path;pid'",)),
    Case("csv: no pid", "csv", table("path,id\na.jpg,1\n"), DatasetError, ("no column pid",)),
    Case("csv: binary", "csv", table(b"\x89PNG\xff\xd8"), DatasetError, ("not a comma-separated",)),
    Case(
        "csv: bad rows",
        "csv",
        table(
            "path,pid,split,modality\nb.jpg,1,train,visible\na.jpg,,test,thermal\n,2,train,visible\n"
        ),
        DatasetError,
        (
            "line 2: no such file",
            "line 3: pid is empty; split 'test' is none of train, query, gallery; "
            "modality 'thermal' is none of visible, infrared",
            "line 4: path is empty",
        ),
    ),
    Case(
        "csv: many bad rows",
        "csv",
        table("path,pid\n" + "b.jpg,1\n" * 9),
        DatasetError,
        ("line 6:", "... 9 lines in all"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_explained(case: Case, tmp_path: Path) -> None:
    root = case.prepare(tmp_path)
    with pytest.raises(case.error) as caught:
        load_dataset(case.dataset, root)
    for fragment in case.fragments:
        assert fragment in str(caught.value)


def test_unreadable_folder_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_miniature("ltcc", tmp_path)

    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DatasetError, match="train: Permission denied; check that it exists"):
        load_dataset("ltcc", tmp_path)


def test_finding_a_data_set_explains_itself(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="it is empty"):
        find_dataset(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"there is no .*nope; give the folder"):
        find_dataset(tmp_path / "nope")
    (tmp_path / "x.tar").touch()
    with pytest.raises(DatasetNotFoundError, match=r"is a file, but no \.csv table or \.zip"):
        find_dataset(tmp_path / "x.tar")
    write_miniature("ltcc", tmp_path / "some")
    with pytest.raises(DatasetNotFoundError, match=r"one level too high: .*some holds ltcc"):
        find_dataset(tmp_path)
    write_miniature("ltcc", tmp_path)
    write_miniature("last", tmp_path)
    with pytest.raises(ConfigError, match="holds ltcc, last; choose one with --dataset NAME"):
        find_dataset(tmp_path)


def test_vanished_file_changes_the_fingerprint(tmp_path: Path) -> None:
    own = write_miniature("ltcc", tmp_path)
    dataset = load_dataset("ltcc", tmp_path)
    before = fingerprint(dataset)
    (own / "test/011_1_c1_000008.png").unlink()
    assert fingerprint(dataset) != before


@pytest.mark.parametrize(
    ("names", "clothes", "message"),
    [
        (["query/1/a.jpg", "gallery/1/b.jpg"], False, r"no training images .*query, gallery"),
        (["train/1/a.jpg", "train/1/b.jpg"], False, "has 1 identity in its training split"),
        (["train/1/a.jpg", "train/2/b.jpg"], True, "2 of 2 training images have no outfit label"),
    ],
)
def test_untrainable_data_is_refused(
    names: list[str], clothes: bool, message: str, tmp_path: Path
) -> None:
    write_images(tmp_path, names)
    with pytest.raises(DatasetError, match=message):
        require_trainable(load_dataset("folder", tmp_path), clothes=clothes)


def test_trainable_data_passes(tmp_path: Path) -> None:
    write_miniature("ltcc", tmp_path)
    require_trainable(load_dataset("ltcc", tmp_path), clothes=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("session1/001_01 001", "line 1: .* is not <session>/<pid>_<walk> <pid> <outfit>"),
        ("session1/001_01\t001\tc", "no frames in"),
        ("", "list .* is empty"),
    ],
)
def test_bad_video_lists_are_explained(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "CCVID/session1/001_01").mkdir(parents=True)
    for split in ("train", "query", "gallery"):
        (tmp_path / f"CCVID/{split}.txt").write_text(line)
    with pytest.raises(DatasetError, match=message):
        read_ccvid(tmp_path)
