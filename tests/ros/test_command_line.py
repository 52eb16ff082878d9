from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: rclpy does not import")

from darkseg_ros.nodes.command_line import node_main
from darkseg_ros.nodes.parameter_files import PARAMETERS_OF_NODES
from darkseg_ros.nodes.parameters import declarations


def never() -> None:
    raise AssertionError("the node was started")


@pytest.mark.parametrize("name", PARAMETERS_OF_NODES)
def test_help_tells_topics_and_every_parameter_and_starts_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help", "--ros-args", "--log-level", "info"])
    with pytest.raises(SystemExit) as ended:
        node_main(name, never, PARAMETERS_OF_NODES[name], about="| sub | ``image`` |")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {name} ")
    assert "| sub | ``image`` |" in told
    for declaration in declarations(PARAMETERS_OF_NODES[name]):
        assert f"  {declaration.name}:=" in told
        assert declaration.range_text in told


def test_an_argument_that_is_not_ros_s_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["overlay_node", "--image", "/camera/image_raw"])
    with pytest.raises(SystemExit) as ended:
        node_main("overlay_node", never, PARAMETERS_OF_NODES["overlay_node"], about="")
    assert ended.value.code == 2
    assert "unrecognized arguments: --image /camera/image_raw" in capsys.readouterr().err
