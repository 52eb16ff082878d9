from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from darkseg_ros.commands.cli import main
from darkseg_ros.errors import BagError, InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import COMPRESSED_TOPIC, IMAGE_TOPIC, LABEL_TOPIC, BagMessage, BagReader, BagWriter
from darkseg_ros.frames.messages import bgr_from_image, fill_image
from darkseg_ros.night.bag_translation import translate_bag
from darkseg_ros.night.day_to_night import NIGHT_TOPIC, NightSettings, open_day_to_night

HW = (24, 40)
STAMPS_NS = (1_700_000_000_000_000_000, 1_700_000_000_100_000_000, 1_700_000_000_200_000_000)
RECORDED_LATER_NS = 3_000_000


class Negative:
    """A night that is easily told from the day."""

    name = "negative"

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []

    def __call__(self, day_bgr: np.ndarray, *, stamp_ns: int) -> np.ndarray:
        self.stamps_ns.append(stamp_ns)
        return 255 - day_bgr

    def close(self) -> None:
        pass


def day(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*HW, 3)).astype(np.uint8)


@pytest.fixture
def day_bag(tmp_path: Path) -> Path:
    path = tmp_path / "day"
    with BagWriter(path) as writer:
        for index, stamp_ns in enumerate(STAMPS_NS):
            recorded_ns = stamp_ns + RECORDED_LATER_NS
            writer.write_image(IMAGE_TOPIC, day(index), stamp_ns=stamp_ns, frame_id="front", log_stamp_ns=recorded_ns)
            label = np.full(HW, index, np.uint8)
            writer.write_image(LABEL_TOPIC, label, stamp_ns=stamp_ns, frame_id="front", encoding="mono8")
    return path


def messages(bag: Path, topic: str) -> list[BagMessage]:
    with BagReader(bag) as reader:
        return list(reader.messages([topic]))


def test_each_day_frame_gets_a_night_frame_with_its_header_and_time(day_bag: Path, tmp_path: Path) -> None:
    night = Negative()
    translated = translate_bag(day_bag, tmp_path / "night", day_to_night=night)
    assert (translated.frames, translated.skipped_topics) == (3, ())
    assert night.stamps_ns == list(STAMPS_NS)
    with BagReader(tmp_path / "night") as reader:
        assert {topic.name: topic.count for topic in reader.topics.values()} == {
            IMAGE_TOPIC: 3,
            LABEL_TOPIC: 3,
            NIGHT_TOPIC: 3,
        }
        for index, message in enumerate(reader.messages([NIGHT_TOPIC])):
            image = reader.deserialize(message)
            assert image.header.stamp.sec * 10**9 + image.header.stamp.nanosec == STAMPS_NS[index]
            assert (image.header.frame_id, image.encoding) == ("front", "bgr8")
            assert message.log_stamp_ns == STAMPS_NS[index] + RECORDED_LATER_NS
            np.testing.assert_array_equal(bgr_from_image(image), 255 - day(index))


def test_day_and_labels_are_copied_bit_by_bit(day_bag: Path, tmp_path: Path) -> None:
    translate_bag(day_bag, tmp_path / "night", day_to_night=Negative())
    for topic in (IMAGE_TOPIC, LABEL_TOPIC):
        assert messages(tmp_path / "night", topic) == messages(day_bag, topic)


def test_compressed_day_frames_become_raw_night_frames(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "day") as writer:
        writer.write_compressed_image(
            COMPRESSED_TOPIC, np.full((16, 16, 3), 100, np.uint8), stamp_ns=STAMPS_NS[0], frame_id="front"
        )
    translate_bag(tmp_path / "day", tmp_path / "night", day_to_night=Negative())
    with BagReader(tmp_path / "night") as reader:
        (message,) = reader.messages([NIGHT_TOPIC])
        assert (bgr_from_image(reader.deserialize(message)) == 155).all()
        assert len(list(reader.messages([COMPRESSED_TOPIC]))) == 1


def test_a_bag_that_is_night_already_is_refused(day_bag: Path, tmp_path: Path) -> None:
    translate_bag(day_bag, tmp_path / "night", day_to_night=Negative())
    with pytest.raises(BagError, match=f"holds {NIGHT_TOPIC} already"):
        translate_bag(tmp_path / "night", tmp_path / "again", day_to_night=Negative())
    assert not (tmp_path / "again").exists()


def test_topics_of_unknown_types_are_left_out_and_named(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    with BagWriter(tmp_path / "images") as writer:
        writer.write_image(IMAGE_TOPIC, day(0), stamp_ns=STAMPS_NS[0], frame_id="front")
    (image,) = messages(tmp_path / "images", IMAGE_TOPIC)
    store.register(get_types_from_msg("uint8 speed", "my_msgs/msg/Speed"))
    with Writer(tmp_path / "day", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection(IMAGE_TOPIC, image.message_type, typestore=store)
        speeds = writer.add_connection("/speed", "my_msgs/msg/Speed", typestore=store)
        writer.write(images, image.log_stamp_ns, image.data)
        speed = store.types["my_msgs/msg/Speed"](speed=3)
        writer.write(speeds, image.log_stamp_ns, store.serialize_cdr(speed, "my_msgs/msg/Speed"))
    translated = translate_bag(tmp_path / "day", tmp_path / "night", day_to_night=Negative())
    assert translated.skipped_topics == ("/speed",)
    with BagReader(tmp_path / "night") as reader:
        assert set(reader.topics) == {IMAGE_TOPIC, NIGHT_TOPIC}


def test_a_stamp_that_no_message_can_bear_costs_its_frame_only(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    with BagWriter(tmp_path / "day") as writer:
        writer.write_image(IMAGE_TOPIC, day(0), stamp_ns=STAMPS_NS[0], frame_id="front")
        header = SimpleNamespace(stamp=SimpleNamespace(sec=-5, nanosec=0), frame_id="front")
        message = fill_image(SimpleNamespace(), day(1), encoding="bgr8", header=header)
        message.data = np.frombuffer(message.data, np.uint8)
        data = store.serialize_cdr(message, "sensor_msgs/msg/Image")
        writer.copy(BagMessage(IMAGE_TOPIC, "sensor_msgs/msg/Image", STAMPS_NS[1], bytes(data)))
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    assert (
        translate_bag(tmp_path / "day", tmp_path / "night", day_to_night=Negative(), bad_frames=bad_frames).frames == 1
    )
    assert "its stamp is -5.000000000 s, expected 0…2³¹ s" in told[0]


def test_a_frame_that_cannot_be_decoded_gets_no_night_and_ends_a_strict_run(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "day") as writer:
        writer.write_image(IMAGE_TOPIC, day(0), stamp_ns=STAMPS_NS[0], frame_id="front")
        message = SimpleNamespace(
            header=SimpleNamespace(stamp=SimpleNamespace(sec=1_700_000_001, nanosec=0), frame_id="front"),
            height=2,
            width=2,
            encoding="plaid8",
            is_bigendian=0,
            step=2,
            data=np.zeros(4, np.uint8),
        )
        data = get_typestore(Stores.ROS2_JAZZY).serialize_cdr(message, "sensor_msgs/msg/Image")
        writer.copy(BagMessage(IMAGE_TOPIC, "sensor_msgs/msg/Image", STAMPS_NS[1], bytes(data)))
        writer.write_image(IMAGE_TOPIC, day(2), stamp_ns=STAMPS_NS[2], frame_id="front")
    with pytest.raises(InputError, match=r"frame 1 of /camera/image_raw .* cannot be decoded: .*plaid8"):
        translate_bag(tmp_path / "day", tmp_path / "night", day_to_night=Negative())
    assert [path.name for path in tmp_path.iterdir()] == ["day"]
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    translated = translate_bag(tmp_path / "day", tmp_path / "night", day_to_night=Negative(), bad_frames=bad_frames)
    assert (translated.frames, bad_frames.count, len(told)) == (2, 1, 1)
    with BagReader(tmp_path / "night") as reader:
        assert {name: topic.count for name, topic in reader.topics.items()} == {IMAGE_TOPIC: 3, NIGHT_TOPIC: 2}


def test_the_command_makes_the_night_that_the_node_would_make(
    day_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("night", "again"):
        assert main(["bag", "to-night", str(day_bag), "--out", str(tmp_path / name), "--seed", "5"]) == 0
    assert "3 night frames on /day2night_node/night" in capsys.readouterr().out
    assert messages(tmp_path / "night", NIGHT_TOPIC) == messages(tmp_path / "again", NIGHT_TOPIC)
    expected = open_day_to_night(NightSettings(seed=5))(day(2), stamp_ns=STAMPS_NS[2])
    with BagReader(tmp_path / "night") as reader:
        message = list(reader.messages([NIGHT_TOPIC]))[2]
        np.testing.assert_array_equal(bgr_from_image(reader.deserialize(message)), expected)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--seed", "-1"], "expected a whole number from 0 on, got '-1'"),
        (["--seed", "dusk"], "expected a whole number from 0 on, got 'dusk'"),
        (["--bundle", "b", "--seed", "0"], "give one or the other"),
        (["--bundle", "b", "--night-images", "n"], "give one or the other"),
    ],
)
def test_options_that_make_no_sense_are_a_bad_command_line(
    day_bag: Path, tmp_path: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["bag", "to-night", str(day_bag), "--out", str(tmp_path / "night"), *options])
    assert raised.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
