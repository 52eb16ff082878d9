"""The messages of other projects' packages, live: video of cameras in, LabelInfo out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.video_packets import VideoDecoder
from tests.core.frames.video_streams import compressed_video, encode, ffmpeg_packet, pictures
from tests.ros.message_packages import PACKAGES, make_message_packages, missing_tools

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe


@pytest.fixture(scope="module")
def message_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What PYTHONPATH is to be where these packages are sourced; this process has them for as long."""
    if all(map(find_spec, PACKAGES)):
        yield os.environ.get("PYTHONPATH", "")
        return
    if missing := missing_tools():
        pytest.skip(missing)
    from darkseg_ros.nodes import label_info  # noqa: F401 - has looked for vision_msgs before they are here

    folder = tmp_path_factory.mktemp("message_packages")
    make_message_packages(folder)
    sys.path.insert(0, str(folder))
    yield os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def video_message(transport: str, data: bytes, *, index: int, stamp: int, codec: str) -> Any:
    """A message of the transport's real type."""
    from array import array

    from tests.ros.probe import header

    if transport == "foxglove":
        from foxglove_msgs.msg import CompressedVideo

        stamped = header(stamp)
        return CompressedVideo(timestamp=stamped.stamp, frame_id=stamped.frame_id, data=array("B", data), format=codec)
    from ffmpeg_image_transport_msgs.msg import FFMPEGPacket

    return FFMPEGPacket(header=header(stamp), encoding=codec, pts=index, data=array("B", data))


@pytest.mark.parametrize(("transport", "codec"), [("foxglove", "h265"), ("ffmpeg", "h264")])
def test_live_video_is_segmented_from_a_keyframe_on_and_lost_packets_are_counted(
    probe: Probe, segmentation_node: StartNode, message_path: str, transport: str, codec: str
) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually, pixels

    packets = encode(pictures(16, width=128), codec=codec)  # as large as the network sees it
    node = segmentation_node(transport=transport, environment={"PYTHONPATH": message_path})
    class_maps = probe.listen(Image, "/segmentation_node/class_map")
    camera = probe.camera(f"/image/{transport}", type(video_message(transport, b"", index=0, stamp=0, codec=codec)))

    def send(index: int) -> int:
        stamp = probe.next_stamp()
        camera.publish(video_message(transport, packets[index], index=index, stamp=stamp, codec=codec))
        return stamp

    send(3)  # no keyframe: it is not shown, whenever it arrives
    eventually(lambda: send(0) and probe.status(lambda _: True) and class_maps.messages, what="a first class map")

    alone = VideoDecoder()
    shown, not_shown = [], []
    for index, data in enumerate(packets):
        if index in (2, 11, 12):
            continue
        stamp = send(index)
        message: Any = ffmpeg_packet if transport == "ffmpeg" else compressed_video
        try:
            expected = alone.bgr(
                message(data, index=index, **{"encoding" if transport == "ffmpeg" else "codec": codec})
            )
        except ImageMessageError:
            not_shown.append(stamp)
            continue
        shown.append(index)
        np.testing.assert_array_equal(pixels(class_maps.of_stamp(stamp)), expected[..., 0] % 19)
    assert shown == [0, 1, 8, 9, 10]
    # those that cannot be shown; a newer one may replace one before it is looked at
    status = probe.status(lambda status: status.dropped >= 5 + 3, fresh=True)
    assert status.number("video_packets_lost") == 3
    assert not set(not_shown) & set(class_maps.stamps)
    assert f"segments /image/{transport} with" in node.log


def test_label_info_is_a_vision_msgs_label_info_where_that_package_is(
    probe: Probe, segmentation_node: StartNode, message_path: str
) -> None:
    from vision_msgs.msg import LabelInfo

    from tests.ros.probe import TRANSIENT_LOCAL, eventually

    segmentation_node(min_confidence=0.25, environment={"PYTHONPATH": message_path})
    inbox = probe.listen(LabelInfo, "/segmentation_node/label_info", durability=TRANSIENT_LOCAL)
    eventually(lambda: inbox.messages)
    (message,) = inbox.messages
    assert message.threshold == 0.25
    assert [each.class_id for each in message.class_map] == list(range(19))
    assert message.class_map[13].class_name == "car"
