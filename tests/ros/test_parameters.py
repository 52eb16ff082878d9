"""Parameters: declared once, and the same in ROS, in config/*.yaml and in the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from darkseg_ros.installed_files import share_directory

if TYPE_CHECKING:
    from rclpy.node import Node

pytestmark = pytest.mark.usefixtures("ros_domain")

CONFIG = share_directory() / "config"
ROS_OWN = {"use_sim_time", "start_type_description_service"}


@contextmanager
def ros(*arguments: str) -> Iterator[None]:
    import rclpy

    rclpy.init(args=["--ros-args", *arguments])
    try:
        yield
    finally:
        rclpy.try_shutdown()


def every_node() -> Iterator[Node]:
    from darkseg_ros.nodes.day2night_node import Day2NightNode
    from darkseg_ros.nodes.evaluation_node import EvaluationNode
    from darkseg_ros.nodes.overlay_node import OverlayNode
    from darkseg_ros.nodes.segmentation_node import SegmentationNode

    for node_class in (SegmentationNode, OverlayNode, EvaluationNode, Day2NightNode):
        node = node_class()
        yield node
        node.destroy_node()


def declared_names(node: Node) -> list[str]:
    return [
        name
        for name in node.get_parameters_by_prefix("")
        if not name.startswith("qos_overrides") and name not in ROS_OWN
    ]


def test_files_and_pages_are_what_the_declarations_say() -> None:
    from darkseg_ros.nodes.parameter_files import expected_files

    expected = expected_files()
    assert {CONFIG / "segmentation_node.yaml", CONFIG / "day2night_node.yaml", share_directory() / "README.md"} <= set(
        expected
    )
    for path, content in expected.items():
        cure = f"{path} is not what the declarations say; run `python -m darkseg_ros.nodes.parameter_files`"
        assert path.read_text(encoding="utf-8") == content, cure


def test_the_shipped_files_hold_the_default_of_every_parameter() -> None:
    content: dict[str, Any] = {}
    for path in CONFIG.glob("*_node.yaml"):
        content |= yaml.safe_load(path.read_text(encoding="utf-8"))
    with ros("-p", "autostart:=false"):
        for node in every_node():
            declared = {name: node.get_parameter(name).value for name in declared_names(node)}
            shipped = content[f"/**/{node.get_name()}"]["ros__parameters"]
            assert {**declared, "autostart": True} == {"autostart": True, **shipped}


def test_ros_and_the_readme_tell_the_same_of_segmentation_node() -> None:
    page = (share_directory() / "README.md").read_text(encoding="utf-8")
    _, _, table = page.partition("<!-- parameters of segmentation_node -->\n\n")
    rows = [re.split(r" *\| *", line)[1:-1] for line in table.partition("\n\n")[0].splitlines()[2:]]
    with ros("-p", "autostart:=false"):
        (node,) = (node for node in every_node() if node.get_name() == "segmentation_node")
        assert [row[0].strip("`") for row in rows] == declared_names(node)
        for name, default, allowed, live, means in rows:
            descriptor = node.describe_parameter(name.strip("`"))
            if name != "`autostart`":
                assert yaml.safe_load(default) == node.get_parameter(name.strip("`")).value
            assert descriptor.description == means
            assert descriptor.read_only == (live == "no")
            for bounds in (*descriptor.integer_range, *descriptor.floating_point_range):
                assert allowed == f"{bounds.from_value:g}…{int(bounds.to_value)}"
            if descriptor.additional_constraints:
                assert descriptor.additional_constraints == f"one of {allowed}"


@pytest.mark.parametrize("namespace", ["/", "/front"])
def test_the_parameter_file_applies_in_every_namespace(tmp_path: Path, namespace: str) -> None:
    from darkseg_ros.nodes.overlay_node import OverlayNode

    shipped = (CONFIG / "segmentation_node.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "params.yaml"
    changed.write_text(shipped.replace("opacity: 0.5", "opacity: 0.75"))
    with ros("-r", f"__ns:={namespace}", "--params-file", str(changed)):
        node = OverlayNode()
        assert node.get_parameter("opacity").value == 0.75
        node.destroy_node()


def test_an_integer_is_taken_for_a_number_at_start_and_later() -> None:
    from rclpy.parameter import Parameter

    from darkseg_ros.nodes.overlay_node import OverlayNode

    with ros("-p", "opacity:=1"):
        node = OverlayNode()
        opacity = node.get_parameter("opacity")
        assert (opacity.type_, opacity.value) == (Parameter.Type.DOUBLE, 1.0)
        (outcome,) = node.set_parameters([Parameter("opacity", value=0)])
        assert outcome.successful, outcome.reason
        opacity = node.get_parameter("opacity")
        assert (opacity.type_, opacity.value) == (Parameter.Type.DOUBLE, 0.0)
        (outcome,) = node.set_parameters([Parameter("opacity", value=2)])
        assert not outcome.successful
        assert node.get_parameter("opacity").value == 0.0
        node.destroy_node()


@pytest.mark.parametrize("given", ["2", "-1", "1.5", "true", "dark", "[0.5]"])
def test_what_is_no_number_within_the_range_is_refused_at_start(given: str) -> None:
    from rclpy.exceptions import ParameterException

    from darkseg_ros.nodes.overlay_node import OverlayNode

    with ros("-p", f"opacity:={given}"), pytest.raises(ParameterException, match="opacity"):
        OverlayNode()


def test_an_integer_parameter_takes_no_fraction() -> None:
    from rclpy.exceptions import ParameterException

    from darkseg_ros.nodes.overlay_node import OverlayNode

    with ros("-p", "buffered_images:=16.0"), pytest.raises(ParameterException, match="buffered_images"):
        OverlayNode()
