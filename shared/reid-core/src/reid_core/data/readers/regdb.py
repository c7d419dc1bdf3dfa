"""RegDB: one colour and one thermal camera; ten divisions into training and test people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reid_core.data.layout import SYNTHETIC_MARKER, DatasetInfo, SplitCount
from reid_core.data.locate import describe_folder
from reid_core.data.readers.labels import Labelled, label_test
from reid_core.data.readers.listing import Listing
from reid_core.data.readers.modalities import label_both_modalities
from reid_core.data.readers.text_lists import ImageLists
from reid_core.data.sample import Modality, Sample
from reid_core.errors import DatasetError

__all__ = ["REGDB", "read_regdb"]

_NUM_TRIALS = 10
_SPLITS = tuple(
    f"{split}_{trial}" for split in ("train", "test") for trial in range(1, _NUM_TRIALS + 1)
)

REGDB = DatasetInfo(
    name="regdb",
    title="RegDB",
    folder="RegDB",
    layout=(
        "Visible/1/*_v_*.bmp ...\n"
        "Thermal/1/*_t_*.bmp ...\n"
        "idx/train_visible_1.txt, train_thermal_1.txt, test_visible_1.txt, test_thermal_1.txt\n"
        "idx/... the same for trials 2 to 10  (may be absent)"
    ),
    required=("Visible", "Thermal", "idx"),
    probe=("idx", r"(train|test)_(visible|thermal)_[0-9]+\.txt$"),
    splits=_SPLITS,
    # Ten visible and ten thermal images of each person.
    counts={split: SplitCount(206, 4120) for split in _SPLITS},
    clothes_label="none",
    num_trials=_NUM_TRIALS,
    source=(
        "from its authors, who ask for a signed copyright form (DBPerson-Recog-DB1), "
        "http://dm.dongguk.edu/link.html"
    ),
    paper=(
        "Nguyen et al., Person Recognition System Based on a Combination of Body Images from "
        "Visible Light and Thermal Cameras, Sensors 2017"
    ),
)

# Names in the lists; what stands for the camera: there is one of each kind.
_MODALITIES: Mapping[str, tuple[Modality, int]] = {
    "visible": ("visible", 0),
    "thermal": ("infrared", 1),
}


def read_regdb(listing: Listing) -> Mapping[str, Sequence[Sample]]:
    """Read the trials whose lists are there, each split with its visible images first.

    Identities come from the lists and mean another person in every trial and in training and test.
    Thermal images count as infrared.

    Returns:
        ``train_<t>`` of all trials, then ``test_<t>``.

    Raises:
        DatasetError: When there is no trial, a trial lacks a list, or a list is wrong.
    """
    trials = _find_trials(listing)
    lists = ImageLists(listing.folder)
    train, test = {}, {}
    for trial in trials:
        name = f"train_{trial}"
        train[name] = label_both_modalities(listing, name, *_read_lists(lists, "train", trial))
        visible, infrared = label_test(*_read_lists(lists, "test", trial))
        test[f"test_{trial}"] = [*visible, *infrared]
    if len(trials) < _NUM_TRIALS and not (listing.folder / SYNTHETIC_MARKER).is_file():
        present = ", ".join(map(str, trials))
        listing.notes.append(f"lists of {len(trials)} of {_NUM_TRIALS} trials are there: {present}")
    return {**train, **test}


def _find_trials(listing: Listing) -> list[int]:
    """Return the trials of which all lists are there."""
    trials = []
    for trial in range(1, _NUM_TRIALS + 1):
        names = [
            f"idx/{split}_{modality}_{trial}.txt"
            for split in ("train", "test")
            for modality in _MODALITIES
        ]
        missing = [name for name in names if not (listing.folder / name).is_file()]
        if not missing:
            trials.append(trial)
        elif len(missing) < len(names):
            raise DatasetError(
                f"trial {trial} in {listing.folder} lacks {', '.join(missing)}; copy the lists "
                "again, or remove the others of this trial"
            )
    if not trials:
        folder = listing.folder / "idx"
        raise DatasetError(
            f"no lists of any trial in {folder} (train_visible_1.txt, train_thermal_1.txt, "
            f"test_visible_1.txt, test_thermal_1.txt, ...); {describe_folder(folder)}. Copy or "
            "extract the data set again."
        )
    return trials


def _read_lists(lists: ImageLists, split: str, trial: int) -> list[list[Labelled]]:
    return [
        [
            Labelled(path, pid, camid, None, modality)
            for path, pid in lists.read(f"idx/{split}_{name}_{trial}.txt")
        ]
        for name, (modality, camid) in _MODALITIES.items()
    ]
