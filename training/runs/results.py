"""What a stage leaves behind: files that are whole, and one line where it fails."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.errors import DarksegError, InputError, one_line
from darkseg_ros.whole_files import write_whole


@contextmanager
def one_line_errors(stage: str) -> Iterator[None]:
    """End the process with one line instead of a traceback where the user, the disk or Ctrl-C ends a stage.

    Args:
        stage: named at the start of the line.
    """
    try:
        yield
    except (DarksegError, OSError) as error:
        message = str(error.args[0]) if len(error.args) == 1 else str(error)  # with its line breaks, if it has any
        if message.startswith("Caught "):  # from a loader process, with its whole traceback
            message = message.rstrip().splitlines()[-1]
        sys.exit(f"{stage}: {one_line(message)}")
    except KeyboardInterrupt:
        sys.exit(130)


def write_result(path: Path, content: str | bytes) -> None:
    """Write a file of a run whole.

    Raises:
        InputError: if the disk is full or not writable, or the text names a file whose name is not UTF-8.
    """
    try:
        write_whole(path, content.encode() if isinstance(content, str) else content)
    except UnicodeEncodeError as error:
        line = error.object[: error.end].splitlines()[-1]
        raise InputError(f"{path} cannot hold {line!a}: not UTF-8; rename the file of that name") from error
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); make room and start again") from error


def write_picture(path: Path, bgr: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG whole; raises as `write_result`."""
    write_result(path, cv2.imencode(".png", bgr)[1].tobytes())


def write_image_figures(path: Path, names: Sequence[str], figures: dict[str, np.ndarray]) -> None:
    """Write a CSV file of one line an image: its name, then its figures.

    Args:
        path: the file.
        names: of the images.
        figures: by column name, (N,) each.

    Raises:
        InputError: as `stage_run.write_result`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *figures])
    for name, *row in zip(names, *figures.values(), strict=True):
        writer.writerow([name, *(f"{figure:.10g}" for figure in row)])
    write_result(path, text.getvalue())
