"""All protocols, as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from reid_core.data.readers import READERS
from reid_core.evaluation.protocols.definition import Draw, Protocol
from reid_core.evaluation.rules import Match

__all__ = ["PROTOCOLS"]


def _prcc(
    name: str,
    query: str,
    *,
    dataset: str = "prcc",
    gallery_draw: Draw = "all",
    trials: int = 1,
    default: bool = True,
) -> Protocol:
    camera, outfit = ("B", "in the same") if query == "query_same" else ("C", "in another")
    return Protocol(
        name=f"{dataset}/{name}",
        match="any_camera",
        query=query,
        gallery_draw=gallery_draw,
        trials=trials,
        # Published results rank the whole gallery; single-shot ones do not compare with them.
        default=default and gallery_draw == "all",
        remark=f"`gallery` is camera A, `{query}` is camera {camera}: the same people {outfit} "
        "outfit.",
    )


def _prcc_all(dataset: str, *, same_clothes: bool = True) -> list[Protocol]:
    """Return the protocols; those of the same clothes are reported unasked where it is so said."""
    return [
        _prcc("same_clothes", "query_same", dataset=dataset, default=same_clothes),
        _prcc("cloth_changing", "query_diff", dataset=dataset),
        *(
            _prcc(
                f"{name}_single_shot", query, dataset=dataset, gallery_draw="single_shot", trials=10
            )
            for name, query in (("same_clothes", "query_same"), ("cloth_changing", "query_diff"))
        ),
    ]


def _standard(
    dataset: str, remark: str = "", *, match: Match = "standard", val: bool = False
) -> Protocol:
    return Protocol(
        name=f"{dataset}/val_standard" if val else f"{dataset}/standard",
        match=match,
        query="val_query" if val else "query",
        gallery="val_gallery" if val else "gallery",
        default=not val,
        remark=remark,
    )


def _with_outfits(dataset: str, remark: str = "") -> list[Protocol]:
    rules: tuple[Match, ...] = ("standard", "cloth_changing", "same_clothes")
    return [Protocol(name=f"{dataset}/{match}", match=match, remark=remark) for match in rules]


def _celeb() -> list[Protocol]:
    without = "There are no camera labels."
    positions = (
        "A query loses the gallery image at its own position where both show one person: an "
        "accident of the official evaluation of CSSC."
    )
    index = (
        "The camera of an image is the second number of its file name, which counts the images of "
        "a person: the official evaluation of DeskPro."
    )
    official = "official_cameras"
    return [
        _standard("celeb", without, match="any_camera"),
        Protocol(
            name=f"celeb/{official}",
            match="standard",
            cameras="positions",
            default=False,
            remark=f"{without} {positions}",
        ),
        *(
            protocol
            for name in ("celeb_light", "celeb_lr_hr_mask", "celeb_light_lr_hr_mask")
            for protocol in (
                _standard(name, without, match="any_camera"),
                Protocol(
                    name=f"{name}/{official}",
                    match="standard",
                    default=False,
                    remark=f"{without} {index}",
                ),
            )
        ),
    ]


def _sysu() -> list[Protocol]:
    indoor, everywhere = (0, 1), (0, 1, 3, 4)
    protocols = []
    for draw in ("per_camera", "permutation_file"):
        for place, cameras in (("all", everywhere), ("indoor", indoor)):
            for shots in (1, 10):
                protocols.append(
                    Protocol(
                        name=f"sysu/{place}_search"
                        + ("_multi_shot" if shots > 1 else "")
                        + ("_official" if draw == "permutation_file" else ""),
                        match="any_camera",
                        query="test",
                        gallery="test",
                        query_cameras=(2, 5),
                        gallery_cameras=cameras,
                        # Cameras 2 and 3 hang in one room.
                        hidden=((2, 1),),
                        gallery_draw=draw,
                        shots=shots,
                        trials=10,
                        cmc="identity",
                        default=draw == "per_camera" and shots == 1,
                        remark=_sysu_remark(draw, shots),
                    )
                )
    return protocols


def _sysu_remark(draw: str, shots: int) -> str:
    cameras = "Cameras 3 and 6 are infrared."
    if draw == "permutation_file":
        return cameras
    if shots == 1:
        return f"{cameras} Draws as in Ye et al., TPAMI 2021 (AGW)."
    return f"{cameras} The draws are our own: none were published that can be repeated."


def _regdb() -> list[Protocol]:
    first = Protocol(
        name="regdb/visible_to_thermal",
        match="any_camera",
        query="test",
        gallery="test",
        query_modality="visible",
        gallery_modality="infrared",
        trials=10,
        trial_lists=True,
        remark="Thermal images count as infrared.",
    )
    return [
        first,
        replace(
            first,
            name="regdb/thermal_to_visible",
            query_modality="infrared",
            gallery_modality="visible",
        ),
    ]


def _llcm() -> list[Protocol]:
    first = Protocol(
        name="llcm/ir2vis",
        match="standard",
        query="test",
        gallery="test",
        query_modality="infrared",
        gallery_modality="visible",
        gallery_draw="per_camera",
        trials=10,
        cmc="identity",
        remark='Compares with "IR to VIS" in the table of the authors\' repository (2023-06-24).',
    )
    return [
        first,
        replace(
            first,
            name="llcm/vis2ir",
            query_modality="visible",
            gallery_modality="infrared",
            remark='Compares with "VIS to IR" in the paper (mAP above rank-1), not with the '
            "repository's table.",
        ),
        replace(
            first,
            name="llcm/vis2ir_readme",
            query_draw="per_camera",
            gallery_draw="all",
            remark='Compares with "VIS to IR" in the table of the authors\' repository '
            "(2023-06-24: rank-1 far above mAP), not with the paper.",
        ),
    ]


_LAST_REMARK = "There are no camera labels."
_DEEPCHANGE_REMARK = (
    "The tracklet stands for the camera: another tracklet of the same camera is a match."
)
_MARKET_REMARK = (
    "Identity -1 are junk boxes; identity 0 are distractors, which stay in the gallery as images "
    "of other people."
)

_ALL = (
    *_with_outfits("ltcc", "The lists in the data set's `info` folder are not used."),
    *_prcc_all("prcc"),
    # The authors' archive has no queries of camera B.
    *_prcc_all("prcc_lr_hr_mask", same_clothes=False),
    _standard("last", _LAST_REMARK, match="any_camera"),
    _standard("last", _LAST_REMARK, match="any_camera", val=True),
    *_with_outfits("vcclothes"),
    _standard("vcclothes_sc", "Both are cut to cameras 2 and 3: the same outfit."),
    _standard("vcclothes_cc", "Both are cut to cameras 3 and 4: another outfit."),
    _standard("deepchange", _DEEPCHANGE_REMARK),
    _standard("deepchange", _DEEPCHANGE_REMARK, val=True),
    *_celeb(),
    _standard("market1501", _MARKET_REMARK),
    _standard("dukemtmc", "Distractors stay in the gallery as images of other people."),
    _standard("msmt17"),
    _standard("msmt17_trainval", "The network was trained on both lists."),
    *_sysu(),
    *_regdb(),
    *_llcm(),
    *_with_outfits("custom"),
    Protocol(
        name="custom/any_camera",
        match="any_camera",
        default=False,
        remark="For images without camera labels; a query must not be in the gallery itself.",
    ),
)


def _cited(protocol: Protocol) -> Protocol:
    reader = READERS.get(protocol.dataset)
    return protocol if reader is None else replace(protocol, citation=reader.info.paper)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.name: _cited(protocol) for protocol in _ALL}
)
"""All protocols by name."""
