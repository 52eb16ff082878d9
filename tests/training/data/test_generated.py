from __future__ import annotations

from pathlib import Path

import pytest

from training.data.__main__ import main
from training.data.pairs import find_images, find_labelled_images


def test_generated_data_are_what_a_training_takes_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        main(["generate", "--out", str(tmp_path / name), "--images", "9", "--size-hw", "16", "32"])
    counts = {
        part: len(find_labelled_images(tmp_path / "one" / part))
        for part in ("train", "validation/day", "validation/night")
    }
    assert counts == {"train": 9, "validation/day": 2, "validation/night": 2}
    assert len(find_images(tmp_path / "one" / "night")) == 4
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*.png"))]
    assert len(files) == 2 * 13 + 4
    images = [file for file in files if file.parent.name != "label"]
    contents = {(tmp_path / "one" / file).read_bytes() for file in images}
    assert len(contents) == 17  # no image stands twice, neither in one folder nor in two
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--images", "1"], "expected 8 or more"), (["--size-hw", "8", "8"], "at least 16 x 16")]
)
def test_too_little_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["generate", "--out", str(tmp_path), *arguments])
