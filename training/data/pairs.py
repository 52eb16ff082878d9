"""Labelled and unlabelled images on disk, from any data set of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, pair_files, train_id_format
from darkseg_ros.frames.source import image_files
from training.data.catalogue import data_set, layouts_of
from training.data.shards import read_shards

MADE_BY = "made_by.json"
"""Beside the label maps of `training.pseudo_label`: what made them."""


def find_images(folder: Path) -> list[Path]:
    """All pictures of a folder, sorted by name.

    Raises:
        InputError: if the folder is missing or holds no picture.
    """
    try:
        return image_files(folder)
    except InputError as error:
        raise InputError(f"{error}; set DARKSEG_DATA or the data.* keys of the config") from error


def find_labelled_images(folder: Path, classes: ClassTable = CITYSCAPES) -> list[LabelledImage]:
    """Pairs of ``image/<stem>.*`` and ``label/<stem>.*``, sorted by stem.

    Raises:
        InputError: if a folder is missing or empty, or a file has no partner.
    """
    return pair_files(folder / "image", folder / "label", train_id_format(classes))


@dataclass(frozen=True)
class Source:
    """Labelled images of one data set: an entry of ``data.source`` or ``data.validation``.

    Attributes:
        folder: its root; of shards a URL too.
        data_set: a name of `training.data.catalogue.CATALOGUE`; plain has image/ and label/ with train ids.
        split: of the data set; empty for its first.
        ignore: names of classes that have no ground truth here, such as those that hold others besides.
        mapping: class name of each value of the label maps, for own label ids; values with an empty name are ignored.
            Empty where the data set says what its values are.
    """

    folder: str
    data_set: str = "plain"
    split: str = ""
    ignore: tuple[str, ...] = ()
    mapping: Mapping[int, str] = field(default_factory=dict)


def source_of(entry: str | Path | Mapping[str, Any] | Source, classes: ClassTable = CITYSCAPES) -> Source:
    """An entry of a config: a folder, or a mapping with the keys of `Source`, whose classes are those of the run.

    Raises:
        InputError: if a key, a data set, a split or a class is unknown.
    """
    if isinstance(entry, Source):
        return entry
    if not isinstance(entry, Mapping):
        return Source(str(entry))
    known = {one.name for one in fields(Source)}
    unknown = sorted(set(map(str, entry)) - known)
    if unknown or not entry.get("folder"):
        raise InputError(
            f"data source {dict(entry)} has {', '.join(unknown) or 'no folder'}; expected a folder, or a mapping with "
            f"the keys {', '.join(one.name for one in fields(Source))}"
        )
    given = {str(key): value for key, value in entry.items()}
    source = Source(
        **{
            **given,
            "folder": str(given["folder"]),
            "ignore": tuple(given.get("ignore") or ()),
            "mapping": dict(given.get("mapping") or {}),
        }
    )
    row = data_set(source.data_set)
    if row.read is None:
        raise InputError(f"{row.title} has no labels that are read; name it under data.night, not as a source")
    if source.split and source.data_set != "plain" and source.split not in row.splits:
        raise InputError(f"{row.title} has no split {source.split}; expected one of {', '.join(row.splits)}")
    names = [*source.ignore, *(name for name in source.mapping.values() if name)]
    if unknown := [name for name in names if name not in classes.train_ids]:
        raise InputError(f"{source.folder}: there is no class {unknown[0]}; classes: {', '.join(classes.names)}")
    if classes != CITYSCAPES and source.data_set != "plain" and not source.mapping:
        raise InputError(
            f"{source.folder}: {row.title} is read into Cityscapes' classes, and data.classes lists others; add a "
            "mapping from the values of its label maps to the names of classes"
        )
    return source


def find_source(
    entry: str | Path | Mapping[str, Any] | Source, classes: ClassTable = CITYSCAPES
) -> list[LabelledImage]:
    """The pairs of one source, in the form its label maps have.

    Raises:
        InputError: as `source_of`, or if the folder does not hold what its data set publishes; the message says which
            layout it looks like.
    """
    source = source_of(entry, classes)
    row = data_set(source.data_set)
    assert row.read is not None
    root = Path(source.folder)
    try:
        if source.data_set == "shards":
            pairs = read_shards(source.folder)  # a Path would spoil a URL
        else:
            pairs = row.read(root, source.split or row.splits[0])
    except InputError as error:
        others = [name for name in layouts_of(root) if name != source.data_set] if root.is_dir() else []
        looks = f"; the folder looks like data_set {' or '.join(others)}" if others else ""
        raise InputError(f"{error}{looks}") from error
    if source.data_set == "plain":
        train_ids = train_id_format(classes)
        pairs = [replace(pair, label_format=train_ids) for pair in pairs]
    if source.mapping:
        train_id_of = {
            int(value): classes.train_ids[name] if name else IGNORE_INDEX for value, name in source.mapping.items()
        }
        form = LabelFormat(f"the values {', '.join(map(str, sorted(train_id_of)))} of its mapping", train_id_of)
        pairs = [replace(pair, label_format=form) for pair in pairs]
    if source.ignore:
        forms = {id(pair.label_format): pair.label_format for pair in pairs}
        ignored = [classes.train_ids[name] for name in source.ignore]
        changed = {key: form.ignoring(ignored) for key, form in forms.items()}
        pairs = [replace(pair, label_format=changed[id(pair.label_format)]) for pair in pairs]
    return pairs


def find_labelled_pool(
    entries: Iterable[str | Path | Mapping[str, Any] | Source], classes: ClassTable = CITYSCAPES
) -> list[LabelledImage]:
    """The pairs of several sources, one after the other: each image counts alike, whatever its source.

    Sources may differ in size, shape and in what their label maps hold.

    Raises:
        InputError: if there is no source, one is named twice, or as `find_source`.
    """
    sources = [source_of(entry, classes) for entry in entries]
    keys = {(Path(source.folder).resolve(), source.data_set, source.split) for source in sources}
    if not sources or len(keys) < len(sources):
        raise InputError(
            f"data.source names {[source.folder for source in sources]}; expected one folder or more, each once"
        )
    return [pair for source in sources for pair in find_source(source, classes)]


def find_pseudo_labelled_images(images: Path, labels: Path, classes: ClassTable = CITYSCAPES) -> list[LabelledImage]:
    """The images of a folder that have a label map ``<stem>.png`` in another, sorted by stem.

    Raises:
        InputError: if there is none.
    """
    form = train_id_format(classes)
    files = [(image, labels / f"{image.stem}.png") for image in find_images(images)]
    pairs = [LabelledImage(image, label, form) for image, label in files if label.is_file()]
    if not pairs:
        raise InputError(f"{labels} has no label map for any image of {images}; run training.pseudo_label first")
    return pairs


def find_validation_sets(
    entries: Mapping[str, Any], classes: ClassTable = CITYSCAPES
) -> dict[str, list[LabelledImage]]:
    """The pairs of each named set; a set whose entry is null is left out.

    Raises:
        InputError: naming the set, as `find_source`.
    """
    sets = {}
    for name, entry in entries.items():
        if entry is not None:
            try:
                sets[str(name)] = find_source(entry, classes)
            except InputError as error:
                raise InputError(f"data.validation.{name}: {error}") from error
    return sets
