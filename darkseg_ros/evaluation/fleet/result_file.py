"""The result of a drive as a Parquet file: a row for each camera, hour and darkness, with sums that add up."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.fleet.judgement import DriveJudgement, Stretch, Sums, WorstFrame
from darkseg_ros.fleet.places import REQUIREMENTS

FORMAT = 2
_METADATA_KEY = b"darkseg"


def to_parquet(judgement: DriveJudgement) -> bytes:
    """The file's content: columns place, camera, hour, level, each field of `Sums`, worst_frame, worst_value,
    worst_picture. Matrices are lists, row by row. What belongs to the whole drive is JSON in the schema's metadata.

    Raises:
        InputError: if pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    rows = []
    for stretch in judgement.stretches:
        sums = {
            name: value.ravel().tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(stretch.sums).items()
        }
        worst = stretch.worst
        rows.append(
            {
                "place": judgement.place,
                "camera": stretch.camera,
                "hour": stretch.hour,
                "level": stretch.level,
                **sums,
                "worst_frame": worst and worst.name,
                "worst_value": worst and worst.value,
                "worst_picture": worst and worst.picture,
            }
        )
    kinds = {"worst_value": pyarrow.float64(), "worst_picture": pyarrow.binary()}
    numbers = {
        item.name: pyarrow.int64() if item.type == "int" else pyarrow.list_(pyarrow.int64()) for item in fields(Sums)
    }
    of_drive = {"format": FORMAT, **asdict(_without_rows(judgement))}
    schema = pyarrow.schema(
        [(name, kinds.get(name) or numbers.get(name) or pyarrow.string()) for name in rows[0]],
        metadata={_METADATA_KEY: json.dumps(of_drive).encode()},
    )
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def from_parquet(content: bytes, *, name: str) -> DriveJudgement:
    """Read what `to_parquet` wrote.

    Raises:
        InputError: if the file is damaged, or of another version.
    """
    pyarrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(io.BytesIO(content))
        of_drive = json.loads(table.schema.metadata[_METADATA_KEY])
        version = of_drive.pop("format")
        if version != FORMAT:
            raise InputError(f"{name} is a result of format {version}, expected {FORMAT}; evaluate into another folder")
        classes = tuple(of_drive.pop("classes"))
        stretches = tuple(_stretch(row, len(classes)) for row in table.to_pylist())
        return DriveJudgement(
            **{**of_drive, "classes": classes, "stretches": stretches, "reasons": tuple(of_drive["reasons"])}
        )
    except (pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name} is damaged: {error}; remove it and evaluate with --resume") from error


def _without_rows(judgement: DriveJudgement) -> DriveJudgement:
    return DriveJudgement(**{**vars(judgement), "stretches": ()})


def _stretch(row: dict[str, Any], class_count: int) -> Stretch:
    sums = {}
    for item in fields(Sums):
        value = row[item.name]
        if isinstance(value, list):
            value = np.array(value, np.int64)
            value = value.reshape(class_count, class_count + 1) if item.name in ("confusion", "warped") else value
        sums[item.name] = value
    worst = None
    if row["worst_frame"] is not None:
        worst = WorstFrame(row["worst_frame"], row["worst_value"], row["worst_picture"])
    return Stretch(row["camera"], row["hour"], row["level"], Sums(**sums), worst)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"many drives need pyarrow for their results; install {REQUIREMENTS}") from error
    return pyarrow, pyarrow.parquet
