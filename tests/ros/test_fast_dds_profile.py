"""The shipped Fast DDS profile: large best-effort images arrive complete between two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from darkseg_ros.installed_files import share_directory

if TYPE_CHECKING:
    from tests.ros.probe import Probe

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 60
DDS = "{http://www.eprosima.com}"

CAMERA = f"""
import time
from darkseg_ros.nodes.middleware import prepare_middleware
prepare_middleware()
import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from darkseg_ros.frames.messages import fill_image
from std_msgs.msg import Header

rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "/image", qos_profile_sensor_data)
bgr = np.random.default_rng(0).integers(0, 255, (1024, 2048, 3)).astype(np.uint8)
message = fill_image(Image(), bgr, encoding="bgr8", header=Header())
while not publisher.get_subscription_count():
    time.sleep(0.01)
time.sleep(0.5)
start = time.monotonic()
for number in range({FRAMES}):
    time.sleep(max(0.0, start + number / 30 - time.monotonic()))
    message.header.stamp.sec = number
    publisher.publish(message)
time.sleep(1.0)
node.destroy_node()
rclpy.shutdown()
"""


def test_30_hz_of_6_megabytes_best_effort_arrive_complete(probe: Probe) -> None:
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    from tests.ros.probe import BEST_EFFORT

    arrived: list[tuple[int, int]] = []
    probe.node.create_subscription(
        Image,
        "/image",
        lambda message: arrived.append((message.header.stamp.sec, len(message.data))),
        QoSProfile(depth=5, reliability=BEST_EFFORT),
    )
    camera = subprocess.run([sys.executable, "-c", CAMERA], cwd=ROOT, env=dict(os.environ), timeout=60, check=False)
    assert camera.returncode == 0
    assert arrived == [(number, 2048 * 1024 * 3) for number in range(FRAMES)]


@pytest.mark.parametrize("variable", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_a_profile_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    from darkseg_ros.nodes.middleware import PROFILE_VARIABLES, prepare_middleware

    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/mine.xml")
    prepare_middleware()
    assert [os.environ.get(name) for name in PROFILE_VARIABLES if name in os.environ] == ["/mine.xml"]


def test_without_a_choice_both_variables_name_a_shipped_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    from darkseg_ros.nodes.middleware import PROFILE_VARIABLES, prepare_middleware

    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, "")
    prepare_middleware()
    (profile,) = {os.environ[name] for name in PROFILE_VARIABLES}
    assert Path(profile).parent == share_directory() / "config"
    assert Path(profile).is_file()


@pytest.mark.parametrize("megabytes", [64, 512])
def test_the_processes_of_a_demo_fit_into_the_shared_memory(megabytes: int) -> None:
    from darkseg_ros.nodes.middleware import fast_dds_profile

    profile = ElementTree.parse(fast_dds_profile(shared_memory_bytes=megabytes * 2**20)).getroot()
    (segment_bytes,) = (int(element.text or "") for element in profile.iter(f"{DDS}segment_size"))
    (message_bytes,) = (int(element.text or "") for element in profile.iter(f"{DDS}maxMessageSize"))
    assert 4 * segment_bytes < megabytes * 2**20
    assert 2048 * 1024 * 3 < message_bytes < segment_bytes
