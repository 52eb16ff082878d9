"""The fake backend answers blue mod 19; frames have the network's size, so the answer is exact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from darkseg_ros.commands.offline_segmentation import Outputs, SegmentedFiles, plan_segmentation, segment_files
from darkseg_ros.errors import EngineError, InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import IMAGE_TOPIC, BagWriter
from darkseg_ros.frames.source import ALL_FRAMES, FrameSelection
from darkseg_ros.model.segmenter import Segmenter
from tests.bundles import write_tiny_bundle
from tests.core.frames.video_files import write_video
from tests.core.pictures.test_video_writer import frames_of

HW = (64, 128)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    opened = Segmenter.open(write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW), backend="fake")
    yield opened
    opened.close()


def random_bgr(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8)


def read_class_map(path: Path) -> np.ndarray:
    class_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert class_map is not None, f"{path} is no picture"
    assert class_map.dtype == np.uint8
    return class_map


def write_bag(path: Path, frames: list[np.ndarray], *, topic: str = IMAGE_TOPIC) -> None:
    with BagWriter(path, "mcap") as bag:
        for index, bgr in enumerate(frames):
            bag.write_image(topic, bgr, stamp_ns=10**18 + index * 10**8, frame_id="front")


def segment(
    inputs: list[Path],
    *,
    segmenter: Segmenter,
    out: Path,
    overlay: bool = False,
    topic: str | None = None,
    outputs: Outputs | None = None,
    resume: bool = False,
    bad_frames: BadFrames | None = None,
    selection: FrameSelection = ALL_FRAMES,
    recursive: bool = False,
) -> SegmentedFiles:
    plan = plan_segmentation(
        inputs, out=out, topic=topic, bad_frames=bad_frames, selection=selection, recursive=recursive
    )
    return segment_files(plan, segmenter=segmenter, outputs=outputs or Outputs(overlay=overlay), resume=resume)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_image_gives_its_class_map(tmp_path: Path, segmenter: Segmenter) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), random_bgr(1))
    segmented = segment([tmp_path / "street.png"], segmenter=segmenter, out=tmp_path / "out")
    assert segmented.frames == 1
    assert segmented.folders == (tmp_path / "out",)
    assert names_in(tmp_path / "out") == ["street.png"]
    np.testing.assert_array_equal(read_class_map(tmp_path / "out" / "street.png"), random_bgr(1)[..., 0] % 19)


def test_a_folder_gives_a_class_map_and_an_overlay_for_each_image(tmp_path: Path, segmenter: Segmenter) -> None:
    images = tmp_path / "images"
    images.mkdir()
    # blue 10 is sky, (180, 130, 70) in BGR: the overlay is the mean of both
    cv2.imwrite(str(images / "a.png"), np.full((*HW, 3), (10, 100, 200), np.uint8))
    cv2.imwrite(str(images / "b.png"), random_bgr(2))
    segment([images], segmenter=segmenter, out=tmp_path / "out", overlay=True)
    assert names_in(tmp_path / "out") == ["a.png", "a_overlay.jpg", "b.png", "b_overlay.jpg"]
    np.testing.assert_array_equal(read_class_map(tmp_path / "out" / "a.png"), np.full(HW, 10))
    np.testing.assert_array_equal(read_class_map(tmp_path / "out" / "b.png"), random_bgr(2)[..., 0] % 19)
    overlay = cv2.imread(str(tmp_path / "out" / "a_overlay.jpg"))
    assert abs(overlay.astype(int) - (95, 115, 135)).max() <= 4


def test_the_class_map_has_the_geometry_of_the_image(tmp_path: Path, segmenter: Segmenter) -> None:
    cv2.imwrite(str(tmp_path / "odd.png"), np.full((37, 51, 3), (7, 0, 0), np.uint8))
    segment([tmp_path / "odd.png"], segmenter=segmenter, out=tmp_path / "out")
    np.testing.assert_array_equal(read_class_map(tmp_path / "out" / "odd.png"), np.full((37, 51), 7))


def test_a_video_gives_a_class_map_a_frame_and_an_overlay_video(tmp_path: Path, segmenter: Segmenter) -> None:
    path = write_video(tmp_path / "drive.avi", frames=4, size_hw=HW)
    segmented = segment([path], segmenter=segmenter, out=tmp_path / "out", overlay=True)
    assert segmented.frames == 4
    assert names_in(tmp_path / "out") == ["drive", "drive_overlay.mp4"]
    assert names_in(tmp_path / "out" / "drive") == [f"drive_{index:06d}.png" for index in range(4)]
    for index, bgr in enumerate(frames_of(path)):
        class_map = read_class_map(tmp_path / "out" / "drive" / f"drive_{index:06d}.png")
        np.testing.assert_array_equal(class_map, bgr[..., 0] % 19)
    assert len(frames_of(tmp_path / "out" / "drive_overlay.mp4")) == 4


def test_a_bag_gives_the_class_maps_of_the_chosen_topic(tmp_path: Path, segmenter: Segmenter) -> None:
    with BagWriter(tmp_path / "night", "mcap") as bag:
        for index in range(3):
            for topic, seed in (("/left", index), ("/right", 10 + index)):
                bag.write_image(topic, random_bgr(seed), stamp_ns=10**18 + index * 10**8, frame_id="front")
    with pytest.raises(InputError, match="/left, /right"):
        segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out", topic="/right")
    assert len(names_in(tmp_path / "out" / "night")) == 3
    for index in range(3):
        class_map = read_class_map(tmp_path / "out" / "night" / f"night_{index:06d}.png")
        np.testing.assert_array_equal(class_map, random_bgr(10 + index)[..., 0] % 19)


def test_an_error_on_the_way_leaves_no_half_video(tmp_path: Path, segmenter: Segmenter) -> None:
    failing = np.full((*HW, 3), (255, 0, 255), np.uint8)
    write_bag(tmp_path / "night", [random_bgr(0), random_bgr(1), failing])
    with pytest.raises(EngineError):
        segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out", overlay=True)
    assert names_in(tmp_path / "out") == ["night"]
    assert names_in(tmp_path / "out" / "night") == ["night_000000.png", "night_000001.png"]


def test_an_input_is_never_replaced_by_its_class_map(tmp_path: Path, segmenter: Segmenter) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), random_bgr(1))
    before = (tmp_path / "street.png").read_bytes()
    for given in (tmp_path / "street.png", tmp_path):
        with pytest.raises(InputError, match="would replace the input"):
            segment([given], segmenter=segmenter, out=tmp_path)
    assert (tmp_path / "street.png").read_bytes() == before


def test_two_inputs_of_one_name_are_refused(tmp_path: Path, segmenter: Segmenter) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "street.png"), random_bgr(1))
        write_bag(tmp_path / folder / "night", [random_bgr(1)])
    with pytest.raises(InputError, match="a second time"):
        segment(
            [tmp_path / "first" / "street.png", tmp_path / "second" / "street.png"],
            segmenter=segmenter,
            out=tmp_path / "out",
        )
    with pytest.raises(InputError, match="would both write"):
        segment(
            [tmp_path / "first" / "night", tmp_path / "second" / "night"],
            segmenter=segmenter,
            out=tmp_path / "out",
        )


def test_a_bad_frame_is_left_out_counted_and_leaves_a_gap(tmp_path: Path, segmenter: Segmenter) -> None:
    with BagWriter(tmp_path / "night") as bag:
        for index, encoding in enumerate(("bgr8", "mono8", "bgr8")):
            pixels = random_bgr(index) if encoding == "bgr8" else random_bgr(index)[..., 0]
            bag.write_image(IMAGE_TOPIC, pixels, stamp_ns=10**18 + index, frame_id="", encoding=encoding)
    (file,) = (tmp_path / "night").glob("*.mcap")
    file.write_bytes(file.read_bytes().replace(b"mono8", b"mon\xc3\xb68"[:5]))
    bad_frames = BadFrames(tell=lambda _: None)
    segmented = segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out", bad_frames=bad_frames)
    assert (segmented.frames, bad_frames.count) == (2, 1)
    assert names_in(tmp_path / "out" / "night") == ["night_000000.png", "night_000002.png"]


def test_other_forms_of_a_class_map_have_the_names_of_cityscapes(tmp_path: Path, segmenter: Segmenter) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), np.full((*HW, 3), (10, 0, 0), np.uint8))  # the fake engine says sky
    outputs = Outputs(color=True, palette=True, label_ids=True)
    segment([tmp_path / "street.png"], segmenter=segmenter, out=tmp_path / "out", outputs=outputs)
    assert names_in(tmp_path / "out") == [f"street{end}.png" for end in ("", "_color", "_labelIds", "_palette")]
    sky = (70, 130, 180)
    with Image.open(tmp_path / "out" / "street_color.png") as picture:
        assert picture.getpixel((0, 0)) == sky
    with Image.open(tmp_path / "out" / "street_palette.png") as picture:
        assert (picture.mode, picture.getpixel((0, 0)), picture.convert("RGB").getpixel((0, 0))) == ("P", 10, sky)
    with Image.open(tmp_path / "out" / "street_labelIds.png") as picture:
        assert picture.getpixel((0, 0)) == 23


def test_side_by_side_shows_the_camera_on_the_left(tmp_path: Path, segmenter: Segmenter) -> None:
    path = write_video(tmp_path / "drive.avi", frames=2, size_hw=HW)
    segment([path], segmenter=segmenter, out=tmp_path / "out", outputs=Outputs(side_by_side=True))
    frames = frames_of(tmp_path / "out" / "drive_overlay.mp4")
    assert [frame.shape for frame in frames] == [(HW[0], 2 * HW[1], 3)] * 2
    np.testing.assert_allclose(frames[1][8:-8, 8 : HW[1] - 8], 20, atol=8)


def test_resume_keeps_what_is_there_and_makes_what_is_missing(tmp_path: Path, segmenter: Segmenter) -> None:
    write_bag(tmp_path / "night", [random_bgr(index) for index in range(3)])
    segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out")
    folder = tmp_path / "out" / "night"
    earlier = np.full(HW, 7, np.uint8)
    cv2.imwrite(str(folder / "night_000000.png"), earlier)
    (folder / "night_000001.png").unlink()
    (folder / "night_000002.png").write_bytes(b"")
    segmented = segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out", resume=True, overlay=True)
    assert segmented.frames == 3
    np.testing.assert_array_equal(read_class_map(folder / "night_000000.png"), earlier)
    for index in (1, 2):
        expected = random_bgr(index)[..., 0] % 19
        np.testing.assert_array_equal(read_class_map(folder / f"night_{index:06d}.png"), expected)
    assert len(frames_of(tmp_path / "out" / "night_overlay.mp4")) == 3


def test_frames_are_chosen_by_time_and_number(tmp_path: Path, segmenter: Segmenter) -> None:
    write_bag(tmp_path / "night", [random_bgr(index) for index in range(8)])  # ten a second
    selection = FrameSelection(start_s=0.2, duration_s=0.5, every_nth=2)
    segment([tmp_path / "night"], segmenter=segmenter, out=tmp_path / "out", selection=selection)
    assert names_in(tmp_path / "out" / "night") == [f"night_00000{index}.png" for index in (2, 4, 6)]


def test_images_have_no_clock(tmp_path: Path, segmenter: Segmenter) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), random_bgr(1))
    with pytest.raises(InputError, match="has no clock"):
        segment([tmp_path / "a.png"], segmenter=segmenter, out=tmp_path / "out", selection=FrameSelection(start_s=1))


def test_folders_below_a_folder_are_kept_apart(tmp_path: Path, segmenter: Segmenter) -> None:
    for city in ("aachen", "zurich"):
        (tmp_path / "in" / city).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / city / "a.png"), random_bgr(1))
    segmented = segment([tmp_path / "in"], segmenter=segmenter, out=tmp_path / "out", recursive=True)
    assert segmented.frames == 2
    assert (tmp_path / "out" / "aachen" / "a.png").is_file()
    assert (tmp_path / "out" / "zurich" / "a.png").is_file()


@pytest.mark.parametrize("name", ["...mp4", "....mkv"])
def test_a_name_never_leads_out_of_the_output(tmp_path: Path, segmenter: Segmenter, name: str) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / f"drive{Path(name).suffix}", frames=1).rename(tmp_path / "in" / name)
    out = tmp_path / "deep" / "out"
    if name == "...mp4":
        with pytest.raises(InputError, match=r"leaves the name '\.\.'"):
            segment([tmp_path / "in" / name], segmenter=segmenter, out=out)
        assert not (tmp_path / "deep").exists()
    else:
        segment([tmp_path / "in" / name], segmenter=segmenter, out=out)
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_the_folder_one_stands_in_gives_its_own_name(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bag(tmp_path / "night", [random_bgr(1)])
    for here, named in ((tmp_path / "night", "."), (tmp_path / "night" / "sub", "..")):
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        segment([Path(named)], segmenter=segmenter, out=tmp_path / "out")
        assert names_in(tmp_path / "out") == ["night"]


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path, segmenter: Segmenter) -> None:
    name = os.fsdecode(b"a\xff.png")
    cv2.imwrite(str(tmp_path / "a.png"), random_bgr(1))
    (tmp_path / "a.png").rename(tmp_path / name)
    for given in (tmp_path / name, tmp_path):
        with pytest.raises(InputError, match="not UTF-8"):
            plan_segmentation([given], out=tmp_path / "out")
