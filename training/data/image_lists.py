"""Lists of chosen images: one file name a line, relative to their folder, in sorted order."""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.errors import InputError
from training.data.pairs import find_images
from training.runs.results import write_result


def write_image_list(path: Path, names: list[str]) -> None:
    """Write a list, replacing an earlier one.

    Args:
        path: the list.
        names: file names relative to the folder of the images, in any order.

    Raises:
        InputError: if there is no name, a name twice or one that does not fit a line, or the list cannot be written.
    """
    if not names:
        raise InputError(f"no image is left for {path}; widen what chooses them")
    unfit = [name for name in names if name != name.strip() or len(name.splitlines()) != 1]
    if unfit:
        raise InputError(f"{unfit[0]!r} cannot stand in the image list {path}; rename the file")
    if len(set(names)) < len(names):
        twice = next(name for name in sorted(names) if names.count(name) > 1)
        raise InputError(f"{twice} would stand twice in the image list {path}; expected each image once")
    write_result(path, "".join(f"{name}\n" for name in sorted(names)))


def read_image_list(path: Path, folder: Path) -> list[Path]:
    """The images of a list, as paths in `folder`, sorted by name.

    Raises:
        InputError: if the list is missing, empty, or names a file twice or one that is not in `folder`; the line is
            named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the image list {path} cannot be read: {error}; expected one file name a line") from error
    line_by_name: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if name in line_by_name:
            raise InputError(f"{path}, line {number}: {name} stands on line {line_by_name[name]} already; remove one")
        if not (folder / name).is_file():
            raise InputError(
                f"{path}, line {number}: {folder} has no file {name}; give the folder this list was made for, "
                "or make the list anew"
            )
        line_by_name[name] = number
    if not line_by_name:
        raise InputError(f"the image list {path} is empty; make it anew with settings that choose something")
    return [folder / name for name in sorted(line_by_name)]


def find_domain_images(folders: list[str], image_list: str | None) -> list[Path]:
    """The images of one domain.

    Raises:
        InputError: if there is no folder, one holds no image, or the list does not fit.
    """
    if not folders:
        raise InputError("data.day and data.night need a folder each")
    if image_list is None:
        return [image for folder in folders for image in find_images(Path(folder))]
    if len(folders) > 1:
        raise InputError(f"{image_list} lists images of one folder, got {len(folders)}: {', '.join(folders)}")
    return read_image_list(Path(image_list), Path(folders[0]))
