"""Predictions beside a drive: what is in them, what is left alone, and that both are read together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.frames.bags import IMAGE_TOPIC, IMAGE_TYPE, LABEL_TOPIC, BagReader, BagWriter
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.synthetic_drive import SyntheticDrive
from tests.bundles import write_tiny_bundle

START_NS, PERIOD_NS, RECORDED_AFTER_NS = 1_700_000_000_000_000_000, 400_000_000, 7_000_000
FRAMES = 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    street = SyntheticDrive(seed=4, size_hw=(64, 128))
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(FRAMES):
            scene, stamp_ns = street.frame(12 * index), START_NS + index * PERIOD_NS
            at = {"stamp_ns": stamp_ns, "log_stamp_ns": stamp_ns + RECORDED_AFTER_NS}
            writer.write_image(IMAGE_TOPIC, scene.bgr, frame_id="front", **at)
            writer.write_image(LABEL_TOPIC, scene.label_map, frame_id="front", encoding="mono8", **at)
    return tmp_path / "drive"


def segment(drive: Path, bundle: Path, *options: str) -> int:
    out = str(drive.parent / "out")
    return main(
        ["segment", str(drive), "--sidecar", "--bundle", str(bundle), "--backend", "openvino", "--out", out, *options]
    )


def read(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    messages: dict[str, list[tuple[int, Any]]] = {}
    with BagReader(bag) as reader:
        for message in reader.messages():
            messages.setdefault(message.topic, []).append((message.log_stamp_ns, reader.deserialize(message)))
    return messages


def test_class_map_and_confidence_of_each_frame_bear_its_stamps_and_the_drive_stays_as_it_was(
    drive: Path, bundle: Path
) -> None:
    before = {path.name: path.read_bytes() for path in drive.iterdir()}
    assert segment(drive, bundle) == 0
    assert {path.name: path.read_bytes() for path in drive.iterdir()} == before
    predictions = drive.parent / "out" / "drive_predictions"
    assert sorted(path.suffix for path in predictions.iterdir()) == [".mcap", ".yaml"]
    messages = read(predictions)
    images = read(drive)[IMAGE_TOPIC]
    for name in ("class_map", "confidence"):
        found = messages[f"/segmentation_node/{name}"]
        assert [at for at, _ in found] == [at for at, _ in images]
        for (_, values), (_, image) in zip(found, images, strict=True):
            assert values.__msgtype__ == IMAGE_TYPE
            assert (values.header, values.encoding, values.step) == (image.header, "mono8", image.width)
            assert (values.height, values.width) == (image.height, image.width)
    ((at_ns, label_info),) = messages["/segmentation_node/label_info"]
    assert label_info.__msgtype__ == "vision_msgs/msg/LabelInfo"
    assert at_ns == images[0][0]
    with BagReader(predictions) as reader:
        (qos,) = reader.topics["/segmentation_node/label_info"].qos
    assert (qos.durability.name, qos.depth) == ("TRANSIENT_LOCAL", 1)
    assert [(row.class_id, row.class_name) for row in label_info.class_map][:2] == [(0, "road"), (1, "sidewalk")]


def test_diagnostics_tell_the_camera_each_second_and_the_counts_at_the_end(drive: Path, bundle: Path) -> None:
    assert segment(drive, bundle) == 0
    told = read(drive.parent / "out" / "drive_predictions")["/diagnostics"]
    # frames at 0, 0.4, …, 1.6 s: told at 0 and 1.2 s, and at the end
    assert [at - START_NS - RECORDED_AFTER_NS for at, _ in told] == [0, 3 * PERIOD_NS, 4 * PERIOD_NS]
    status = told[-1][1].status[0]
    values = {row.key: row.value for row in status.values}
    assert (status.name, status.level, status.message) == ("segmentation_node: segmentation", 0, "running")
    assert (values["camera"], values["frames_in"], values["frames_published"]) == ("healthy", "5", "5")
    assert values["bundle"] == "tiny"


def test_a_dark_camera_is_told_when_it_begins(tmp_path: Path, bundle: Path) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(8):
            noise = np.random.default_rng(index).integers(0, 4, (48, 64, 3), dtype=np.uint8)
            writer.write_image(IMAGE_TOPIC, noise, stamp_ns=START_NS + index * 33_000_000, frame_id="front")
    assert segment(tmp_path / "drive", bundle) == 0
    told = [array.status[0] for _, array in read(tmp_path / "out" / "drive_predictions")["/diagnostics"]]
    assert [(status.level, status.message.partition(":")[0]) for status in told] == [
        (0, "running"),
        (1, "the camera is dark"),
        (1, "the camera is dark"),
    ]


def test_drive_and_sidecar_are_evaluated_together_as_the_model_itself(drive: Path, bundle: Path) -> None:
    assert segment(drive, bundle) == 0
    sidecar = str(drive.parent / "out" / "drive_predictions")
    figures = []
    for name, options in (("a", ["--sidecar", sidecar]), ("b", ["--bundle", str(bundle), "--backend", "openvino"])):
        out = drive.parent / name
        assert main(["evaluate", str(drive), *options, "--out", str(out)]) == 0
        figures.append(json.loads((out / "metrics.json").read_text()))
    joined, by_model = figures
    for name in ("miou_present", "pixel_accuracy", "ece"):
        assert joined[name] == by_model[name], name
    assert joined["latency_p50_ms"] is None
    assert joined["input"]["sha256"] != by_model["input"]["sha256"]


def test_a_frame_that_cannot_be_decoded_is_counted(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(3):
            stamp = SimpleNamespace(sec=10 + index, nanosec=0)
            message = SimpleNamespace(
                header=SimpleNamespace(stamp=stamp, frame_id="front"),
                height=2,
                width=4,
                encoding="plaid8" if index == 1 else "mono8",
                is_bigendian=0,
                step=4,
                data=np.arange(8, dtype=np.uint8),
            )
            writer.write_message(IMAGE_TOPIC, IMAGE_TYPE, message, log_stamp_ns=index)
    assert segment(tmp_path / "drive", bundle) == 0
    messages = read(tmp_path / "out" / "drive_predictions")
    assert [stamp_ns_of(each.header) for _, each in messages["/segmentation_node/class_map"]] == [
        10 * 10**9,
        12 * 10**9,
    ]
    values = {row.key: row.value for row in messages["/diagnostics"][-1][1].status[0].values}
    assert (values["frames_in"], values["frames_published"], values["dropped_undecodable"]) == ("3", "2", "1")
    assert "1 bad frame skipped" in capsys.readouterr().out


def test_an_earlier_sidecar_is_not_replaced(drive: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (drive.parent / "out" / "drive_predictions").mkdir(parents=True)
    assert segment(drive, bundle) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_sidecar_is_of_bags_and_without_pictures(
    drive: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    assert segment(tmp_path / "images", bundle) == 1
    assert "is not a bag" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        segment(drive, bundle, "--overlay", "--every-nth", "2")
    assert "leave out --sidecar or --overlay, --every-nth" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(drive), "--sidecar", "x", "--bundle", "y", "--out", str(tmp_path / "z")])
    assert "--sidecar holds some" in capsys.readouterr().err
