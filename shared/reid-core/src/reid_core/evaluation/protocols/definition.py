"""What a protocol is: a few declarative fields, and the words that follow from them.

Cameras are numbered from 0 in all labels (``Sample.camid``): camera 3 of a data set is camid 2.
Texts name the data set's own numbers and say so. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal

from reid_core.data.sample import Modality
from reid_core.evaluation.rules import MATCH_RULES, Match

__all__ = ["SINGLE_SHOT_SEED", "CmcUnit", "Draw", "Protocol"]

Draw = Literal["all", "single_shot", "per_camera", "permutation_file"]
CmcUnit = Literal["image", "identity"]

SINGLE_SHOT_SEED = 3
"""Seed of the ``single_shot`` draws, as in the official reader of PRCC."""

_RANKING = (
    "Queries without a match are left out of all means. Images are ranked by the cosine of their "
    "features where no other scoring is named. AP has one step per match, without interpolation; "
    "an image of another identity with exactly the score of a match ranks before it."
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to evaluate on one data set.

    Attributes:
        name: ``<data set>/<protocol>``; the data set is ``custom`` for one's own images.
        match: Which gallery images of the query's identity are matches (``MATCH_RULES``).
        query: Split whose images are searched for.
        gallery: Split that is searched; may be the same one.
        query_modality: Modality of the queries; None for any.
        gallery_modality: Modality of the gallery images; None for any.
        query_cameras: Cameras of the queries, from 0; None for all.
        gallery_cameras: Cameras of the gallery images, from 0; None for all.
        hidden: Pairs (camera of a query, camera that it does not search), from 0. Images of the
            second are left out of the first's ranking, whoever they show.
        query_draw: Which of these images are queries, see ``gallery_draw``.
        gallery_draw: ``all`` of these images; ``single_shot``: one per identity; ``per_camera``:
            ``shots`` per identity and camera; ``permutation_file``: the same, chosen by the table
            of SYSU-MM01's authors. Whatever is drawn is drawn anew for each trial.
        shots: Images per identity and camera that are drawn.
        trials: Number of draws or of lists; results are means over them.
        trial_lists: Every trial has splits (and usually a network) of its own, named ``<split>_1``,
            ``<split>_2``, ...; those that are at hand are evaluated.
        cameras: ``labels``, or ``positions``: an image's camera is its position in the sorted list
            of its split, whatever its label.
        cmc: What ranks count: images, or identities (the rank of an identity is that of its best
            image).
        default: Whether it is reported unless others are asked for.
        remark: What one has to know of the splits to read the definition.
        citation: Publication that the images and splits come from; empty for one's own.
    """

    name: str
    match: Match
    query: str = "query"
    gallery: str = "gallery"
    query_modality: Modality | None = None
    gallery_modality: Modality | None = None
    query_cameras: tuple[int, ...] | None = None
    gallery_cameras: tuple[int, ...] | None = None
    hidden: tuple[tuple[int, int], ...] = ()
    query_draw: Draw = "all"
    gallery_draw: Draw = "all"
    shots: int = 1
    trials: int = 1
    trial_lists: bool = False
    cameras: Literal["labels", "positions"] = "labels"
    cmc: CmcUnit = "image"
    default: bool = True
    remark: str = ""
    citation: str = ""

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.name.partition("/")[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it needs, each once."""
        names = [name for trial in range(self.trials) for name in self.splits_of_trial(trial)]
        return tuple(dict.fromkeys(names))

    def splits_of_trial(self, trial: int) -> tuple[str, str]:
        """Return the query's and the gallery's split in one trial, counted from 0."""
        suffix = f"_{trial + 1}" if self.trial_lists else ""
        return (self.query + suffix, self.gallery + suffix)

    def trials_in(self, splits: Container[str]) -> tuple[int, ...]:
        """Return the trials whose splits are at hand: all or none, unless each has its own."""
        return tuple(
            trial
            for trial in range(self.trials)
            if all(name in splits for name in self.splits_of_trial(trial))
        )

    @property
    def query_images(self) -> str:
        """The images that may be queries, in words, with ``{}`` for a plural s."""
        return _images(self.query, self.query_modality, self.query_cameras)

    @property
    def gallery_images(self) -> str:
        """The images that may be searched, in words, with ``{}`` for a plural s."""
        return _images(self.gallery, self.gallery_modality, self.gallery_cameras)

    @property
    def needs_cameras(self) -> bool:
        """Whether it cannot do without camera labels."""
        if self.cameras == "positions":
            return False
        named = (self.query_cameras, self.gallery_cameras) != (None, None) or bool(self.hidden)
        drawn = not {self.query_draw, self.gallery_draw} <= {"all", "single_shot"}
        return MATCH_RULES[self.match].needs_cameras or named or drawn

    @property
    def needs_clothes(self) -> bool:
        """Whether it cannot do without outfit labels."""
        return MATCH_RULES[self.match].needs_clothes

    @property
    def needs_modalities(self) -> bool:
        """Whether it cannot do without modalities."""
        return (self.query_modality, self.gallery_modality) != (None, None)

    @property
    def needs_permutations(self) -> bool:
        """Whether it needs the table of gallery permutations of SYSU-MM01's authors."""
        return "permutation_file" in (self.query_draw, self.gallery_draw)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the labels that it needs, as in ``Sample``."""
        wanted = {
            "pid": True,
            "camid": self.needs_cameras,
            "clothes_id": self.needs_clothes,
            "modality": self.needs_modalities,
        }
        return tuple(name for name, needed in wanted.items() if needed)

    @property
    def needs(self) -> str:
        """What has to be at hand, in words."""
        splits = ", ".join(self.splits)
        if self.trial_lists:
            splits = f"any of {splits}"
        table = "; the file rand_perm_cam.mat" if self.needs_permutations else ""
        return f"splits {splits}; labels {', '.join(self.columns)}{table}"

    @property
    def definition(self) -> str:
        """The protocol in words; with the lists of images it can be checked by hand."""
        sentences = (
            self._search_sentence(),
            self._hidden_sentence(),
            self._camera_sentence(),
            self.remark,
            MATCH_RULES[self.match].text,
            self._exclusion_sentence(),
            "CMC counts identities: each stands where its best image does. AP and INP count images."
            if self.cmc == "identity"
            else "",
            _RANKING,
        )
        return " ".join(sentence for sentence in sentences if sentence)

    def _search_sentence(self) -> str:
        query, gallery = self.query_images, self.gallery_images
        lists = ""
        if self.trial_lists:
            lists = (
                f" There are {self.trials} such lists, {self.splits[0]} to {self.splits[-1]}, each "
                "with a network trained for it; results are means over them."
            )
        if self.query_draw != "all":
            return f"{self._drawn(query)} searches all {gallery.format('s')}; {self._draws()}."
        if self.gallery_draw == "all":
            return f"Every {query.format('')} searches all {gallery.format('s')}.{lists}"
        drawn = self._drawn(gallery)
        return f"Every {query.format('')} searches {drawn[0].lower()}{drawn[1:]}; {self._draws()}."

    def _drawn(self, images: str) -> str:
        if "single_shot" in (self.query_draw, self.gallery_draw):
            return f"One {images.format('')} per identity"
        if self.shots == 1:
            return f"One {images.format('')} per identity and camera"
        return f"Up to {self.shots} {images.format('s')} per identity and camera"

    def _draws(self) -> str:
        results = f"results are means over {self.trials} draws"
        if "single_shot" in (self.query_draw, self.gallery_draw):
            return (
                f"{results} (Python's random.seed({SINGLE_SHOT_SEED}), one random.choice per "
                "identity in order of first appearance)"
            )
        if self.needs_permutations:
            return (
                f"{results}: row t of the table rand_perm_cam.mat of the data set's authors, whose "
                "numbers count the sorted files from 1"
            )
        call = "choice" if self.shots == 1 else f"sample of {self.shots}"
        return (
            f"{results}: for t = 0, 1, ... random.seed(t), then one random.{call} from the sorted "
            "files of each identity and camera, in ascending order"
        )

    def _hidden_sentence(self) -> str:
        return " ".join(
            f"A query from camera {query + 1} leaves out all gallery images of camera "
            f"{gallery + 1}, whoever they show."
            for query, gallery in self.hidden
        )

    def _camera_sentence(self) -> str:
        if self.cameras == "positions":
            return "The camera of an image is its position in the sorted list of its split."
        if (self.query_cameras, self.gallery_cameras) == (None, None):
            return ""
        return "Labels count cameras from 0: camera 1 has camid 0."

    def _exclusion_sentence(self) -> str:
        junk = ""
        if MATCH_RULES[self.match].makes_junk:
            junk = "Other images of its identity are junk: left out of its ranking. "
        others = "" if self.hidden else "Images of other identities are never left out. "
        return f"{junk}{others}Images of identity -1 (nobody known) are not used at all."


def _images(split: str, modality: Modality | None, cameras: Sequence[int] | None) -> str:
    """Return ``image{} of ...`` with a place for the plural."""
    kind = f"{modality} " if modality else ""
    places = ""
    if cameras is not None:
        *first, last = (str(camera + 1) for camera in cameras)
        places = f" from camera{'s' if first else ''} "
        places += f"{', '.join(first)} and {last}" if first else last
    return f"{kind}image{{}} of `{split}`{places}"
