"""The smallest files and folders that each reader accepts, for tests of readers and commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

__all__ = ["MINIATURES", "MINIATURE_LISTS", "write_images", "write_miniature"]


def _prepared(
    folder: str,
    *,
    train: Iterable[str],
    query: Iterable[str],
    gallery: Iterable[str],
    query_same: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the files of an archive with face crops and masks beside the images."""
    splits = {
        "bounding_box_train": train,
        "query": query,
        "query_same": query_same,
        "bounding_box_test": gallery,
    }
    return tuple(
        f"{folder}/{tree}/{split}/{name}"
        for tree in ("imgs", "lr_face", "hr_face", "mask")
        for split, names in splits.items()
        for name in names
    )


MINIATURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ltcc": (
            "LTCC_ReID/train/001_1_c1_000001.png",
            "LTCC_ReID/train/001_2_c2_000002.png",
            "LTCC_ReID/train/003_1_c3_000003.png",
            "LTCC_ReID/query/010_1_c1_000004.png",
            "LTCC_ReID/query/010_2_c2_000005.png",
            "LTCC_ReID/test/010_1_c2_000006.png",
            "LTCC_ReID/test/010_2_c12_000007.png",
            "LTCC_ReID/test/011_1_c1_000008.png",
        ),
        "prcc": (
            "prcc/rgb/train/001/A_cropped_rgb001.jpg",
            "prcc/rgb/train/001/B_cropped_rgb002.jpg",
            "prcc/rgb/train/001/C_cropped_rgb003.jpg",
            "prcc/rgb/train/002/A_cropped_rgb001.jpg",
            "prcc/rgb/train/002/C_cropped_rgb002.jpg",
            "prcc/rgb/val/001/A_cropped_rgb004.jpg",
            "prcc/rgb/val/002/C_cropped_rgb005.jpg",
            "prcc/rgb/test/A/005/cropped_rgb001.jpg",
            "prcc/rgb/test/A/018/cropped_rgb002.jpg",
            "prcc/rgb/test/B/005/cropped_rgb003.jpg",
            "prcc/rgb/test/B/018/cropped_rgb004.jpg",
            "prcc/rgb/test/C/005/cropped_rgb005.jpg",
            "prcc/rgb/test/C/018/cropped_rgb006.jpg",
        ),
        "last": (
            "last/train/000000/000000_mv006_00000_00.jpg",
            "last/train/000000/000000_mv081_00000_01.jpg",
            "last/train/000012/000012_mv048_00001_00.jpg",
            "last/val/query/009001_mv007_00723.jpg",
            "last/val/gallery/009001/009001_mv002_00001.jpg",
            "last/test/query/008001_mv005_00311.jpg",
            "last/test/query/008003_mv003_00166.jpg",
            "last/test/gallery/008001/008001_mv002_00001.jpg",
            "last/test/gallery/008003/008003_mv006_00000.jpg",
        ),
        "vcclothes": (
            "VC-Clothes/train/0001-01-01-01.jpg",
            "VC-Clothes/train/0001-02-01-02.jpg",
            "VC-Clothes/train/0002-03-01-01.jpg",
            "VC-Clothes/query/0300-01-03-01.jpg",
            "VC-Clothes/query/0300-02-01-01.jpg",
            "VC-Clothes/query/0300-03-01-01.jpg",
            "VC-Clothes/query/0300-04-02-01.jpg",
            "VC-Clothes/gallery/0300-01-03-02.jpg",
            "VC-Clothes/gallery/0300-02-01-02.jpg",
            "VC-Clothes/gallery/0300-03-01-02.jpg",
            "VC-Clothes/gallery/0300-04-02-02.jpg",
        ),
        "deepchange": (
            "DeepChangeDataset/train-set/P1_C1_S3_2470.jpg",
            "DeepChangeDataset/train-set/P2_C2_S1_7823.jpg",
            "DeepChangeDataset/val-set-query/P40_C9_S2_8036.jpg",
            "DeepChangeDataset/val-set-gallery/P40_C16_S1_8800.jpg",
            "DeepChangeDataset/test-set-query/P500_C1_S2_1028.jpg",
            "DeepChangeDataset/test-set-gallery/P500_C11_S3_3398.jpg",
            "DeepChangeDataset/test-set-gallery/P501_C6_S4_8229.jpg",
        ),
        "celeb": (
            "Celeb-reID/train/1_1_0.jpg",
            "Celeb-reID/train/1_2_0.jpg",
            "Celeb-reID/train/10_1_0.jpg",
            "Celeb-reID/train/2_1_0.jpg",
            "Celeb-reID/query/1_1_0.jpg",
            "Celeb-reID/query/632_1_2.jpg",
            "Celeb-reID/gallery/1_2_0.jpg",
            "Celeb-reID/gallery/1_3_1.jpg",
            "Celeb-reID/gallery/632_2_0.jpg",
        ),
        "celeb_light": (
            "Celeb-reID-light/train/1_1_0.jpg",
            "Celeb-reID-light/train/1_2_0.jpg",
            "Celeb-reID-light/train/10_1_0.jpg",
            "Celeb-reID-light/train/2_1_0.jpg",
            "Celeb-reID-light/query/1_5_0.jpg",
            "Celeb-reID-light/query/590_1_2.jpg",
            "Celeb-reID-light/gallery/1_2_0.jpg",
            "Celeb-reID-light/gallery/590_2_0.jpg",
        ),
        "celeb_lr_hr_mask": _prepared(
            "celeb",
            train=("1_c1_0.jpg", "10_c1_0.jpg", "2_c1_0.jpg", "2_c2_0.jpg"),
            query=("1_c5_0.jpg", "7_c2_0.jpg"),
            gallery=("1_c1_0.jpg", "7_c9_0.jpg"),
        ),
        "celeb_light_lr_hr_mask": _prepared(
            "celeb-light",
            train=("1_1_0.jpg", "10_1_0.jpg", "2_1_0.jpg", "2_2_0.jpg"),
            query=("1_5_0.jpg", "7_2_0.jpg"),
            gallery=("1_1_0.jpg", "7_9_0.jpg"),
        ),
        "prcc_lr_hr_mask": _prepared(
            "prcc",
            train=("001_c1_001.jpg", "001_c3_004.jpg", "014_c1_001.jpg", "014_c2_001.jpg"),
            query=("003_c3_001.jpg", "021_c3_001.jpg"),
            query_same=("003_c2_001.jpg", "021_c2_001.jpg"),
            gallery=("003_c1_001.jpg", "021_c1_001.jpg"),
        ),
        "sysu": (
            "SYSU-MM01/cam1/0001/0001.jpg",
            "SYSU-MM01/cam1/0006/0001.jpg",
            "SYSU-MM01/cam1/0006/0002.jpg",
            "SYSU-MM01/cam2/0002/0001.jpg",
            "SYSU-MM01/cam2/0006/0001.jpg",
            "SYSU-MM01/cam3/0001/0001.jpg",
            "SYSU-MM01/cam3/0002/0001.jpg",
            "SYSU-MM01/cam3/0006/0001.jpg",
            "SYSU-MM01/cam4/0001/0001.jpg",
            "SYSU-MM01/cam4/0010/0001.jpg",
            "SYSU-MM01/cam5/0010/0001.jpg",
            "SYSU-MM01/cam6/0001/0001.jpg",
            "SYSU-MM01/cam6/0010/0001.jpg",
        ),
        "regdb": tuple(
            f"RegDB/{folder}/{person}/{kind}_{frame}_{person}.bmp"
            for person in (1, 2, 5, 9)
            for folder, kind in (("Visible", "male_back_v"), ("Thermal", "male_back_t"))
            for frame in ("00001", "00002")
        ),
        "llcm": (
            "LLCM/vis/0001/0001_c01_s000001_f000001_vis.jpg",
            "LLCM/vis/0003/0003_c09_s000001_f000001_vis.jpg",
            "LLCM/nir/0001/0001_c02_s000001_f000001_nir.jpg",
            "LLCM/nir/0003/0003_c04_s000001_f000001_nir.jpg",
            "LLCM/test_vis/cam1/0002/0002_c01_s000001_f000001_vis.jpg",
            "LLCM/test_vis/cam3/0002/0002_c03_s000001_f000001_vis.jpg",
            "LLCM/test_vis/cam3/0010/0010_c03_s000001_f000001_vis.jpg",
            "LLCM/test_nir/cam1/0002/0002_c01_s000001_f000001_nir.jpg",
            "LLCM/test_nir/cam2/0010/0010_c02_s000001_f000001_nir.jpg",
        ),
        "market1501": (
            "Market-1501-v15.09.15/bounding_box_train/0002_c1s1_000451_03.jpg",
            "Market-1501-v15.09.15/bounding_box_train/0002_c2s1_000301_01.jpg",
            "Market-1501-v15.09.15/bounding_box_train/0010_c6s3_077427_01.jpg",
            "Market-1501-v15.09.15/query/0001_c1s1_001051_00.jpg",
            "Market-1501-v15.09.15/query/0003_c3s6_015971_00.jpg",
            "Market-1501-v15.09.15/bounding_box_test/-1_c1s1_000401_03.jpg",
            "Market-1501-v15.09.15/bounding_box_test/0000_c4s6_000810_02.jpg",
            "Market-1501-v15.09.15/bounding_box_test/0001_c2s1_000301_00.jpg",
            "Market-1501-v15.09.15/bounding_box_test/0003_c4s6_015641_01.jpg",
        ),
        "dukemtmc": (
            "DukeMTMC-reID/bounding_box_train/0001_c2_f0046182.jpg",
            "DukeMTMC-reID/bounding_box_train/0001_c5_f0046302.jpg",
            "DukeMTMC-reID/bounding_box_train/0020_c8_f0109334.jpg",
            "DukeMTMC-reID/query/0005_c2_f0046985.jpg",
            "DukeMTMC-reID/query/0033_c6_f0045755.jpg",
            "DukeMTMC-reID/bounding_box_test/0005_c1_f0044158.jpg",
            "DukeMTMC-reID/bounding_box_test/0033_c4_f0051521.jpg",
            "DukeMTMC-reID/bounding_box_test/4999_c7_f0222222.jpg",
        ),
        "msmt17": (
            "MSMT17_V2/mask_train_v2/0000/0000_000_01_0303morning_0008_0.jpg",
            "MSMT17_V2/mask_train_v2/0000/0000_001_12_0303morning_0010_1_ex.jpg",
            "MSMT17_V2/mask_train_v2/0003/0003_000_15_0113noon_0444_0.jpg",
            "MSMT17_V2/mask_train_v2/0003/0003_001_02_0113noon_0500_0.jpg",
            "MSMT17_V2/mask_test_v2/0000/0000_000_04_0302afternoon_0870_1.jpg",
            "MSMT17_V2/mask_test_v2/0000/0000_010_09_0302afternoon_0870_0.jpg",
            "MSMT17_V2/mask_test_v2/0002/0002_005_03_0114morning_0000_1_ex.jpg",
            "MSMT17_V2/mask_test_v2/0002/0002_007_14_0114morning_0000_1.jpg",
        ),
        "folder": (
            "train/1/c1_001.jpg",
            "train/2/c2_001.jpg",
            "query/7/c1_001.jpg",
            "gallery/7/c2_001.jpg",
            "gallery/9/c1_001.jpg",
        ),
    }
)
"""Image files by data set, relative to the folder that holds the data set's own folder."""

MINIATURE_LISTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "deepchange": {
            "DeepChangeDataset/train-set-bbox.txt": (
                "P2_C2_S1_7823.jpg,777,1018615,5619\nP1_C1_S3_2470.jpg,1512,1808535,83669\n"
            ),
            "DeepChangeDataset/val-set-query-bbox.txt": "P40_C9_S2_8036.jpg,653,18014133,12045\n",
            "DeepChangeDataset/val-set-gallery-bbox.txt": "P40_C16_S1_8800.jpg,1209,9240490,7\n",
            "DeepChangeDataset/test-set-query-bbox.txt": "P500_C1_S2_1028.jpg,53,4658654,38207\n",
            "DeepChangeDataset/test-set-gallery-bbox.txt": (
                "P500_C11_S3_3398.jpg,364,3269925,74164\nP501_C6_S4_8229.jpg,2912,10425161,492\n"
            ),
        },
        "sysu": {
            "SYSU-MM01/exp/train_id.txt": "2\n",
            "SYSU-MM01/exp/val_id.txt": "1\n",
            "SYSU-MM01/exp/test_id.txt": "10,6\n",
        },
        "regdb": {
            f"RegDB/idx/{split}_{modality}_{trial}.txt": "".join(
                f"{modality.capitalize()}/{person}/{kind}_{frame}_{person}.bmp {label}\n"
                for label, person in enumerate(people)
                for frame in ("00001", "00002")
            )
            for trial in range(1, 11)
            for split, people in (("train", (1, 5)), ("test", (2, 9)))
            for modality, kind in (("visible", "male_back_v"), ("thermal", "male_back_t"))
        },
        "llcm": {
            "LLCM/idx/train_vis.txt": (
                "vis/0003/0003_c09_s000001_f000001_vis.jpg 1\n"
                "vis/0001/0001_c01_s000001_f000001_vis.jpg 0\n"
            ),
            "LLCM/idx/train_nir.txt": (
                "nir/0001/0001_c02_s000001_f000001_nir.jpg 0\n"
                "nir/0003/0003_c04_s000001_f000001_nir.jpg 1\n"
            ),
            "LLCM/idx/test_id.txt": "10,2\n",
        },
        "msmt17": {
            "MSMT17_V2/list_train.txt": (
                "0003/0003_000_15_0113noon_0444_0.jpg 3\n"
                "0000/0000_000_01_0303morning_0008_0.jpg 0\n"
                "0003/0003_001_02_0113noon_0500_0.jpg 3\n"
            ),
            "MSMT17_V2/list_val.txt": "0000/0000_001_12_0303morning_0010_1_ex.jpg 0\n",
            "MSMT17_V2/list_query.txt": (
                "0000/0000_010_09_0302afternoon_0870_0.jpg 0\n"
                "0002/0002_007_14_0114morning_0000_1.jpg 2\n"
            ),
            "MSMT17_V2/list_gallery.txt": (
                "0000/0000_000_04_0302afternoon_0870_1.jpg 0\n"
                "0002/0002_005_03_0114morning_0000_1_ex.jpg 2\n"
            ),
        },
    }
)
"""Text files by data set, with their contents."""


def write_miniature(name: str, root: Path, *, decodable: bool = False) -> Path:
    """Write the miniature of a data set.

    Args:
        name: Key of ``MINIATURES``.
        root: Folder that will hold the data set's own folder; made if absent.
        decodable: Write small images; otherwise the files are empty, which readers do not mind.

    Returns:
        The data set's own folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_images(root, MINIATURES[name], decodable=decodable)
    for file, text in MINIATURE_LISTS.get(name, {}).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")
    own = MINIATURES[name][0].split("/")[0]
    return root if own == "train" else root / own


def write_images(root: Path, names: Iterable[str], *, decodable: bool = False) -> None:
    """Write image files (16 x 8 grey JPEG data, or nothing) and the folders they lie in."""
    data = _picture() if decodable else b""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _picture() -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (8, 16), (120, 120, 120)).save(buffer, "JPEG")
    return buffer.getvalue()
