from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bag_images import ImageChoice, write_bag_from_images, write_images
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, START_STAMP_NS, BagReader, BagWriter
from darkseg_ros.frames.messages import bgr_from_message, label_map_from_image
from darkseg_ros.frames.source import FrameSelection
from darkseg_ros.frames.stamps import stamp_ns_of


def write_folders(root: Path, count: int) -> tuple[Path, Path]:
    for name in ("image", "label"):
        (root / name).mkdir()
    for index in range(count):
        cv2.imwrite(str(root / "image" / f"{index}.png"), np.full((4, 6, 3), 10 * index, np.uint8))
        cv2.imwrite(str(root / "label" / f"{index}.png"), np.full((4, 6), index, np.uint8))
    return root / "image", root / "label"


def test_images_and_label_maps_become_a_bag_with_common_stamps(tmp_path: Path) -> None:
    images, labels = write_folders(tmp_path, 3)
    assert write_bag_from_images(images, tmp_path / "bag", labels=labels, rate_hz=4) == 3
    with BagReader(tmp_path / "bag") as reader:
        recorded = [(message.topic, reader.deserialize(message)) for message in reader.messages()]
    pictures = [message for topic, message in recorded if topic == IMAGE_TOPIC]
    maps = [message for topic, message in recorded if topic == LABEL_TOPIC]
    assert [int(bgr_from_message(message)[0, 0, 0]) for message in pictures] == [0, 10, 20]
    assert [int(label_map_from_image(message)[0, 0]) for message in maps] == [0, 1, 2]
    stamps = [stamp_ns_of(message.header) - START_STAMP_NS for message in pictures]
    assert stamps == [0, 250_000_000, 500_000_000]
    assert [stamp_ns_of(message.header) - START_STAMP_NS for message in maps] == stamps


def test_a_broken_image_is_left_out_of_the_bag_and_counted(tmp_path: Path) -> None:
    images, labels = write_folders(tmp_path, 3)
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:-20])
    bad_frames = BadFrames(tell=lambda _: None)
    assert write_bag_from_images(images, tmp_path / "bag", labels=labels, bad_frames=bad_frames) == 2
    assert bad_frames.count == 1
    with pytest.raises(InputError, match=r"1\.png"):
        write_bag_from_images(images, tmp_path / "strict", labels=labels)
    assert not (tmp_path / "strict").exists()


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Ten frames, four in a second, of levels 0, 10, 20, ..."""
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(10):
            bgr = np.full((4, 6, 3), 10 * index, np.uint8)
            writer.write_image("/camera", bgr, stamp_ns=10**18 + index * 250_000_000, frame_id="")
    return tmp_path / "drive"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ImageChoice(), list(range(10))),
        (ImageChoice(every_s=0.5), [0, 2, 4, 6, 8]),
        (ImageChoice(every_s=0.6), [0, 3, 6, 9]),
        (ImageChoice(level=(15, 40)), [2, 3, 4]),
        (ImageChoice(count=4), [0, 3, 6, 9]),
        (ImageChoice(count=99), list(range(10))),
        (ImageChoice(level=(20, 90), count=2), [2, 9]),
        (ImageChoice(FrameSelection(start_s=1.0, duration_s=1.0)), [4, 5, 6, 7]),
        (ImageChoice(FrameSelection(start_s=0.5, every_nth=3)), [2, 5, 8]),
    ],
)
def test_frames_are_chosen_by_time_level_and_number(
    tmp_path: Path, drive: Path, choice: ImageChoice, expected: list[int]
) -> None:
    assert write_images(drive, tmp_path / "out", choice) == len(expected)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"drive_{index:06d}.png" for index in expected]
    for name, index in zip(names, expected, strict=True):
        bgr = cv2.imread(str(tmp_path / "out" / name))
        assert bgr is not None
        assert (bgr == 10 * index).all()


def test_a_choice_that_nothing_fits_is_an_error(tmp_path: Path, drive: Path) -> None:
    with pytest.raises(InputError, match=r"no frame of .* fits"):
        write_images(drive, tmp_path / "out", ImageChoice(level=(200, 255)))
    assert not (tmp_path / "out").exists()
