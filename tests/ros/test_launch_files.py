"""Launch files: run against a recorder everywhere, and for real where launch_ros is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from darkseg_ros.installed_files import share_directory
from tests.ros.launch_recorder import run_launch_file

if TYPE_CHECKING:
    from tests.ros.probe import Probe

SEGMENTATION = share_directory() / "launch" / "segmentation.launch.py"
PARAMETERS = share_directory() / "config" / "segmentation_node.yaml"


def parameters(node: dict[str, Any]) -> dict[str, Any]:
    """What is set beside the file."""
    merged: dict[str, Any] = {}
    for entry in node["parameters"]:
        if isinstance(entry, dict):
            merged |= entry
    return merged


def test_by_default_both_nodes_start_with_the_shipped_parameters() -> None:
    segmentation, overlay = run_launch_file(SEGMENTATION)
    assert (segmentation["package"], segmentation["executable"]) == ("darkseg_ros", "segmentation_node")
    assert (overlay["package"], overlay["executable"]) == ("darkseg_ros", "overlay_node")
    for node in (segmentation, overlay):
        assert Path(node["parameters"][0]) == PARAMETERS
        assert parameters(node) == {"use_sim_time": False}
        assert node["namespace"] == ""
        assert node["arguments"] == ["--ros-args", "--log-level", "info"]
    # resolved beside each other, in whatever namespace
    assert ("class_map", "segmentation_node/class_map") in overlay["remappings"]


def test_arguments_reach_the_nodes() -> None:
    segmentation, overlay = run_launch_file(
        SEGMENTATION,
        namespace="front",
        params_file="/my/params.yaml",
        use_sim_time="true",
        bundle="/my/bundle",
        backend="onnxruntime",
        transport="compressed",
        image="/camera/image_raw",
        log_level="debug",
    )
    assert parameters(segmentation) == {
        "use_sim_time": True,
        "bundle": "/my/bundle",
        "backend": "onnxruntime",
        "transport": "compressed",
    }
    assert parameters(overlay) == {"use_sim_time": True, "transport": "compressed"}
    for node in (segmentation, overlay):
        assert node["namespace"] == "front"
        assert node["parameters"][0] == "/my/params.yaml"
        assert node["arguments"][-1] == "debug"
        assert node["remappings"][:2] == [
            ("image", "/camera/image_raw"),
            ("image/compressed", "/camera/image_raw/compressed"),
        ]


def test_the_overlay_can_be_left_out() -> None:
    nodes = run_launch_file(SEGMENTATION, overlay="false")
    assert [node["executable"] for node in nodes] == ["segmentation_node"]


@pytest.mark.usefixtures("ros_domain")
def test_the_shipped_parameter_file_holds_the_defaults_of_every_parameter() -> None:
    import rclpy

    from darkseg_ros.nodes.overlay_node import OverlayNode
    from darkseg_ros.nodes.segmentation_node import SegmentationNode

    ros_own = {"use_sim_time", "start_type_description_service"}
    content = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))
    rclpy.init(args=["--ros-args", "-p", "autostart:=false"])
    try:
        for node_class in (SegmentationNode, OverlayNode):
            node = node_class()
            declared = {
                name: parameter.value
                for name, parameter in node.get_parameters_by_prefix("").items()
                if not name.startswith("qos_overrides") and name not in ros_own
            }
            shipped = content[f"/**/{node.get_name()}"]["ros__parameters"]
            assert {**declared, "autostart": True} == {"autostart": True, **shipped}
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


@pytest.mark.usefixtures("ros_domain")
@pytest.mark.parametrize("namespace", ["/", "/front"])
def test_the_parameter_file_applies_in_every_namespace(tmp_path: Path, namespace: str) -> None:
    import rclpy

    from darkseg_ros.nodes.overlay_node import OverlayNode

    changed = tmp_path / "params.yaml"
    changed.write_text(PARAMETERS.read_text(encoding="utf-8").replace("opacity: 0.5", "opacity: 0.75"))
    rclpy.init(args=["--ros-args", "-r", f"__ns:={namespace}", "--params-file", str(changed)])
    try:
        node = OverlayNode()
        assert node.get_parameter("opacity").value == 0.75
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def test_launched_for_real_the_node_serves_the_remapped_topic_and_ends_on_ctrl_c(
    probe: Probe, tiny_bundle: Path
) -> None:
    pytest.importorskip("launch_ros", reason="launch_ros is not installed (it is not on PyPI)")
    from sensor_msgs.msg import Image

    from tests.ros.probe import bgr_of, eventually, image

    arguments = {
        "bundle": str(tiny_bundle),
        "backend": "fake",
        "namespace": "front",
        "image": "/camera/image_raw",
    }
    program = (
        "import sys\n"
        "from launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        f"source = PythonLaunchDescriptionSource({str(SEGMENTATION)!r})\n"
        f"include = IncludeLaunchDescription(source, launch_arguments={list(arguments.items())!r})\n"
        "service = LaunchService()\n"
        "service.include_launch_description(LaunchDescription([include]))\n"
        "sys.exit(service.run())\n"
    )
    launch = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ), start_new_session=True)
    try:
        class_maps = probe.listen(Image, "/front/segmentation_node/class_map")
        overlays = probe.listen(Image, "/front/overlay_node/overlay")
        camera = probe.camera("/camera/image_raw")

        def answered() -> bool:
            camera.publish(image(bgr_of((2, 0, 0)), probe.next_stamp()))
            return bool(class_maps.messages and overlays.messages)

        eventually(answered)
        started_s = time.monotonic()
        os.killpg(launch.pid, signal.SIGINT)  # as a terminal does, to launch and its children
        assert launch.wait(timeout=15) == 0
        assert time.monotonic() - started_s < 4  # launch loses patience after 5 s
    finally:
        launch.kill()
        launch.wait()
