from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.ros.probe import Probe

LOGGER = logging.getLogger("darkseg_ros.model.backends.anything")


@pytest.fixture
def node(ros_domain: int) -> Iterator[Any]:
    import rclpy
    from rclpy.node import Node

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("engine_owner", namespace="/front", context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_records_come_out_of_the_nodes_logger_at_their_level(node: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from darkseg_ros.nodes.package_log import PackageLog

    log = PackageLog(node)
    for _ in range(2):  # rclpy remembers the level of each place that logs
        LOGGER.debug("too fine for the node's level")
        LOGGER.info("building, %d %%", 50)
        LOGGER.warning("slow")
        LOGGER.error("wrong")
        LOGGER.critical("over")
    log.close()
    lines = [line for line in capfd.readouterr().err.splitlines() if "[front.engine_owner]: " in line]
    told = [(line.split("]")[0].lstrip("["), line.partition("]: ")[2]) for line in lines]
    assert told == 2 * [("INFO", "building, 50 %"), ("WARN", "slow"), ("ERROR", "wrong"), ("FATAL", "over")]


def test_records_of_any_thread_reach_rosout(probe: Probe, node: Any) -> None:
    from rcl_interfaces.msg import Log

    from darkseg_ros.nodes.package_log import PackageLog
    from tests.ros.probe import eventually

    inbox = probe.listen(Log, "/rosout")
    eventually(lambda: node.count_subscribers("/rosout") > 0)
    log = PackageLog(node)
    threads = [
        threading.Thread(target=lambda name=name: [LOGGER.info("%s %d", name, number) for number in range(10)])
        for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    expected = {f"{name} {number}" for name in ("a", "b", "c") for number in range(10)}
    eventually(lambda: expected <= {line.msg for line in inbox.messages if line.name == "front.engine_owner"})


def test_once_closed_nothing_is_told_and_the_level_is_as_before(node: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from darkseg_ros.nodes.package_log import PackageLog

    package = logging.getLogger("darkseg_ros")
    before = package.level, list(package.handlers)
    PackageLog(node).close()
    LOGGER.error("nobody's")
    assert (package.level, package.handlers) == before
    assert "front.engine_owner" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["segmentation_node", "day2night_node"])
@pytest.mark.usefixtures("ros_domain")
def test_the_nodes_that_open_engines_tell_it_as_long_as_they_live(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    import rclpy

    from darkseg_ros.nodes.day2night_node import Day2NightNode
    from darkseg_ros.nodes.segmentation_node import SegmentationNode

    rclpy.init(args=["--ros-args", "-p", "autostart:=false"])
    try:
        node = {"segmentation_node": SegmentationNode, "day2night_node": Day2NightNode}[name]()
        LOGGER.info("the plan is half built")
        node.destroy_node()
        LOGGER.info("nobody's")
    finally:
        rclpy.try_shutdown()
    log = capfd.readouterr().err
    assert f"[{name}]: the plan is half built" in log
    assert "nobody's" not in log
