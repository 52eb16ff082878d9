"""Launch files: run against a recorder everywhere, and for real where launch_ros is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, START_STAMP_NS, BagWriter
from darkseg_ros.installed_files import share_directory
from darkseg_ros.synthetic_drive import SyntheticDrive
from tests.ros.launch_recorder import run_launch_file

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None, reason="launch_ros is not installed: it is no wheel, docs/tests.md"
)

if TYPE_CHECKING:
    from tests.ros.probe import Probe

LAUNCH = share_directory() / "launch"
CONFIG = share_directory() / "config"
SEGMENTATION = LAUNCH / "segmentation.launch.py"
DAY2NIGHT = LAUNCH / "day2night.launch.py"
EVALUATE_BAG = LAUNCH / "evaluate_bag.launch.py"
MULTI_CAMERA = LAUNCH / "multi_camera.launch.py"
PARAMETERS = CONFIG / "segmentation_node.yaml"


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
        assert node["respawn"] is True
        assert node["respawn_delay"] > 0
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
        respawn="false",
    )
    assert parameters(segmentation) == {
        "use_sim_time": True,
        "bundle": "/my/bundle",
        "backend": "onnxruntime",
        "transport": "compressed",
    }
    assert parameters(overlay) == {"use_sim_time": True, "bundle": "/my/bundle", "transport": "compressed"}
    for node in (segmentation, overlay):
        assert node["namespace"] == "front"
        assert node["parameters"][0] == "/my/params.yaml"
        assert node["arguments"][-1] == "debug"
        assert node["respawn"] is False
        assert node["remappings"][:2] == [
            ("image", "/camera/image_raw"),
            ("image/compressed", "/camera/image_raw/compressed"),
        ]


def test_the_overlay_can_be_left_out() -> None:
    nodes = run_launch_file(SEGMENTATION, overlay="false")
    assert [node["executable"] for node in nodes] == ["segmentation_node"]


def test_day_to_night_starts_one_node_and_records_nothing_unless_asked() -> None:
    (node,) = run_launch_file(DAY2NIGHT)
    assert (node["package"], node["executable"]) == ("darkseg_ros", "day2night_node")
    assert Path(node["parameters"][0]) == CONFIG / "day2night_node.yaml"
    assert parameters(node) == {"use_sim_time": False}
    assert node["respawn"] is True


def test_day_to_night_hands_on_its_arguments_with_their_types() -> None:
    (node,) = run_launch_file(
        DAY2NIGHT,
        namespace="front",
        image="/camera/image_raw",
        label="/camera/label_map",
        pass_labels="true",
        bundle="/my/translator",
        backend="openvino",
        night_images="/my/nights",
        seed="17",
        transport="compressed",
        use_sim_time="true",
        respawn="false",
    )
    assert parameters(node) == {
        "use_sim_time": True,
        "bundle": "/my/translator",
        "backend": "openvino",
        "night_images": "/my/nights",
        "transport": "compressed",
        "seed": 17,
        "pass_labels": True,
    }
    assert (node["namespace"], node["respawn"]) == ("front", False)
    assert node["remappings"] == [
        ("image", "/camera/image_raw"),
        ("image/compressed", "/camera/image_raw/compressed"),
        ("label", "/camera/label_map"),
    ]


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        ({}, ["/image", "/day2night_node/night", "/day2night_node/label"]),
        ({"namespace": "front"}, ["/front/image", "/front/day2night_node/night", "/front/day2night_node/label"]),
        (
            {"namespace": "/front/", "image": "/cam/raw", "transport": "compressed"},
            ["/cam/raw/compressed", "/front/day2night_node/night", "/front/day2night_node/label"],
        ),
    ],
)
def test_day_to_night_records_day_night_and_label_to_an_mcap(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], recorded: list[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/opt/ros/bin/ros2")
    _, recorder = run_launch_file(DAY2NIGHT, record="/my/bag", **arguments)
    assert recorder["kind"] == "ExecuteProcess"
    assert recorder["cmd"][:-1] == ["ros2", "bag", "record", "-s", "mcap", "-o", "/my/bag", "--regex"]
    expression = re.compile(recorder["cmd"][-1])
    for topic in recorded:
        assert expression.search(topic)
        assert not expression.search(f"{topic}2")
        assert not expression.search(f"/other{topic}")
    assert recorder["on_exit"].kind == "Shutdown"  # without it a drive would go unrecorded unseen


def test_recording_without_ros2_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(RuntimeError, match="record needs `ros2 bag`"):
        run_launch_file(DAY2NIGHT, record="/my/bag")


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """A bag, as far as a launch file looks."""
    (tmp_path / "bag").mkdir()
    return tmp_path / "bag"


def test_an_evaluation_plays_the_bag_once_both_nodes_listen(bag: Path) -> None:
    segmentation, evaluation, player, *_ = run_launch_file(EVALUATE_BAG, bag=str(bag), output="/my/report")
    assert (segmentation["executable"], evaluation["executable"]) == ("segmentation_node", "evaluation_node")
    assert parameters(segmentation) == {"use_sim_time": False, "transport": "raw"}  # what is played, whatever the file
    assert parameters(evaluation) == {"use_sim_time": False, "output": "/my/report", "transport": "raw"}
    for node in (segmentation, evaluation):
        assert node["package"] == "darkseg_ros"
        assert ("image", "/camera/image_raw") in node["remappings"]
        assert "respawn" not in node  # a figure of half a drive would look like one of all of it
    assert ("class_map", "segmentation_node/class_map") in evaluation["remappings"]
    assert ("label", "/camera/label_map") in evaluation["remappings"]
    assert " ".join(player["cmd"]) == (
        f"lib/darkseg_ros/darkseg bag play {bag} --rate 1.0 --topic /camera/image_raw --topic /camera/label_map "
        "--wait-for /segmentation_node --wait-for /evaluation_node"
    )


def ended(status: int, *, shutting_down: bool = False) -> tuple[SimpleNamespace, SimpleNamespace]:
    """The event of a process that ended, and the context of launch."""
    return SimpleNamespace(returncode=status), SimpleNamespace(is_shutdown=shutting_down)


def test_an_evaluation_ends_after_the_bag_and_with_the_evaluation_node(bag: Path) -> None:
    _, evaluation, player, *handlers = run_launch_file(EVALUATE_BAG, bag=str(bag), output="/my/report")
    assert float(evaluation["sigterm_timeout"]) >= 60  # pictures of the report are written after SIGINT
    at_player, _, at_evaluation = handlers
    assert at_player["target_action"].options["cmd"][1:4] == player["cmd"][1:4] == ["bag", "play", str(bag)]
    (timer,) = at_player["on_exit"](*ended(0))
    assert timer.options["period"] > 0
    (event,) = timer.options["actions"]
    matcher = event.options["event"].options["process_matcher"]
    assert matcher.operands[0].options["executable"] == "evaluation_node"
    (shutdown,) = at_evaluation["on_exit"](*ended(0))
    assert shutdown.kind == "Shutdown"


@pytest.mark.parametrize("which", range(3), ids=["player", "segmentation_node", "evaluation_node"])
def test_a_process_that_fails_fails_the_evaluation_unless_launch_ends_it(bag: Path, which: int) -> None:
    """What a handler raises makes `ros2 launch` end with status 1."""
    *_, handler = run_launch_file(EVALUATE_BAG, bag=str(bag), output="/my/report")[: 4 + which]
    with pytest.raises(RuntimeError, match="ended with status 3"):
        handler["on_exit"](*ended(3))
    handler["on_exit"](*ended(-2, shutting_down=True))


def test_an_evaluation_hands_its_thresholds_to_the_evaluation_node(bag: Path) -> None:
    _, evaluation, *_ = run_launch_file(
        EVALUATE_BAG,
        bag=str(bag),
        output="/my/report",
        at_least="miou_present=0.2, frames_in=6",
        at_most="latency_p99_ms=50",
    )
    assert parameters(evaluation)["at_least"] == ["miou_present=0.2", "frames_in=6"]
    assert parameters(evaluation)["at_most"] == ["latency_p99_ms=50"]


def test_in_lockstep_the_player_waits_for_what_the_evaluation_has_taken(bag: Path) -> None:
    _, _, player, *_ = run_launch_file(EVALUATE_BAG, bag=str(bag), output="/r", namespace="front", lockstep="true")
    assert " ".join(player["cmd"]).endswith("--lockstep /front/evaluation_node/taken")
    assert player["cmd"][player["cmd"].index("--topic") + 1] == "/camera/image_raw"  # the first one is answered


def test_an_evaluation_of_a_bag_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no bag .*drive"):
        run_launch_file(EVALUATE_BAG, bag=str(tmp_path / "drive"), output="/my/report")


def test_an_evaluation_in_a_namespace_with_compressed_images_and_the_bags_clock(bag: Path) -> None:
    segmentation, evaluation, player, *_ = run_launch_file(
        EVALUATE_BAG,
        bag=str(bag),
        output="/my/report",
        namespace="front",
        image="/cam",
        label="/truth",
        transport="compressed",
        use_sim_time="true",
        rate="0.5",
        bundle="/my/bundle",
        backend="fake",
    )
    assert parameters(segmentation) == {
        "use_sim_time": True,
        "bundle": "/my/bundle",
        "backend": "fake",
        "transport": "compressed",
    }
    assert parameters(evaluation) == {
        "use_sim_time": True,
        "bundle": "/my/bundle",
        "output": "/my/report",
        "transport": "compressed",
    }
    for node in (segmentation, evaluation):
        assert ("image/compressed", "/cam/compressed") in node["remappings"]
    assert (segmentation["namespace"], evaluation["namespace"]) == ("front", "front")
    command = " ".join(player["cmd"])
    assert "--rate 0.5 --topic /cam/compressed --topic /truth" in command
    assert "--wait-for /front/segmentation_node --wait-for /front/evaluation_node --clock" in command


@pytest.mark.parametrize("missing", ["bag", "output"])
def test_an_evaluation_needs_a_bag_and_a_place_for_its_report(missing: str) -> None:
    given = {"bag": "/my/bag", "output": "/my/report"}
    del given[missing]
    with pytest.raises(AssertionError, match=f"{missing} has to be given"):
        run_launch_file(EVALUATE_BAG, **given)


def test_each_camera_gets_its_nodes_in_its_own_namespace() -> None:
    nodes = run_launch_file(
        MULTI_CAMERA, cameras="front, left,right", backend="fake", bundle="/my/bundle", overlay="true"
    )
    assert [(node["namespace"], node["executable"]) for node in nodes] == [
        (camera, executable)
        for camera in ("front", "left", "right")
        for executable in ("segmentation_node", "overlay_node")
    ]
    for node in nodes:
        topic = f"/{node['namespace']}/image_raw"
        assert node["remappings"][:2] == [("image", topic), ("image/compressed", f"{topic}/compressed")]
        assert Path(node["parameters"][0]) == PARAMETERS
    assert parameters(nodes[0]) == {"use_sim_time": False, "bundle": "/my/bundle", "backend": "fake"}


def test_cameras_have_no_overlay_unless_asked_and_any_topic_pattern() -> None:
    nodes = run_launch_file(MULTI_CAMERA, cameras="a,b", image_topic="/rig/{camera}/image", transport="compressed")
    assert [node["executable"] for node in nodes] == ["segmentation_node", "segmentation_node"]
    assert nodes[1]["remappings"][1] == ("image/compressed", "/rig/b/image/compressed")


def test_one_engine_serves_all_cameras_on_the_topics_that_many_would_have() -> None:
    given = {"cameras": "front,rear", "overlay": "true", "bundle": "/my/bundle", "transport": "compressed"}
    segmentation, *overlays = run_launch_file(MULTI_CAMERA, one_engine="true", **given)
    each = run_launch_file(MULTI_CAMERA, **given)
    assert (segmentation["executable"], segmentation["name"]) == ("segmentation_node", "segmentation_node")
    assert segmentation.get("namespace", "") == ""
    assert Path(segmentation["parameters"][0]) == PARAMETERS
    assert parameters(segmentation) == {
        "use_sim_time": False,
        "bundle": "/my/bundle",
        "transport": "compressed",
        "cameras": ["front", "rear"],
    }
    assert segmentation["remappings"] == [
        (topic.format(camera), to.format(camera))
        for camera in ("front", "rear")
        for topic, to in (
            ("{0}/image", "/{0}/image_raw"),
            ("{0}/image/compressed", "/{0}/image_raw/compressed"),
            ("~/{0}/class_map", "{0}/segmentation_node/class_map"),
            ("~/{0}/confidence", "{0}/segmentation_node/confidence"),
            ("~/{0}/color_mask", "{0}/segmentation_node/color_mask"),
            ("~/{0}/label_info", "{0}/segmentation_node/label_info"),
        )
    ]
    assert overlays == [node for node in each if node["executable"] == "overlay_node"]
    assert segmentation["respawn"] is True


@pytest.mark.usefixtures("ros_domain")
def test_the_remappings_of_one_engine_move_the_topics_of_the_node(
    probe: Probe, start_node: Any, tiny_bundle: Path
) -> None:
    from tests.ros.probe import eventually

    (segmentation,) = run_launch_file(MULTI_CAMERA, one_engine="true", cameras="front,rear")
    start_node(
        "segmentation_node",
        parameters={"bundle": tiny_bundle, "backend": "fake", "cameras": parameters(segmentation)["cameras"]},
        remappings=dict(segmentation["remappings"]),
    )
    node = probe.node

    def topics(ask: Any) -> set[str]:
        if ("segmentation_node", "/") not in node.get_node_names_and_namespaces():
            return set()
        return {name for name, _ in ask("segmentation_node", "/")}

    published = {f"/{camera}/segmentation_node/class_map" for camera in ("front", "rear")}
    eventually(lambda: published <= topics(node.get_publisher_names_and_types_by_node))
    eventually(lambda: {"/front/image_raw", "/rear/image_raw"} <= topics(node.get_subscriber_names_and_types_by_node))
    assert not {name for name in topics(node.get_publisher_names_and_types_by_node) if "_node/front" in name}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cameras": "front,,left"}, "different names"),
        ({"cameras": "front,front"}, "different names"),
        ({"cameras": ""}, "different names"),
        ({"cameras": "front,left", "image_topic": "/camera"}, r"must hold \{camera\}"),
    ],
)
def test_cameras_that_cannot_be_told_apart_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_launch_file(MULTI_CAMERA, **arguments)


@pytest.mark.parametrize(
    ("file", "argument", "value"),
    [
        (SEGMENTATION, "use_sim_time", "yes"),
        (SEGMENTATION, "respawn", "1"),
        (SEGMENTATION, "overlay", "on"),
        (SEGMENTATION, "transport", "jpeg"),
        (DAY2NIGHT, "pass_labels", "1"),
        (DAY2NIGHT, "transport", "jpeg"),
        (EVALUATE_BAG, "use_sim_time", "1"),
        (EVALUATE_BAG, "transport", ""),
        (MULTI_CAMERA, "overlay", "yes"),
        (MULTI_CAMERA, "one_engine", "1"),
    ],
)
def test_a_value_that_would_be_taken_for_something_else_is_refused(file: Path, argument: str, value: str) -> None:
    needed = {EVALUATE_BAG: {"bag": "/b", "output": "/o"}, MULTI_CAMERA: {"cameras": "front"}}.get(file, {})
    with pytest.raises(AssertionError, match=f"{argument} must be one of"):
        run_launch_file(file, **needed, **{argument: value})


def test_a_seed_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="seed must be a whole number from 0 on, got 'dusk'"):
        run_launch_file(DAY2NIGHT, seed="dusk")


def test_every_launch_file_is_tested_here() -> None:
    assert set(LAUNCH.glob("*.launch.py")) == {SEGMENTATION, DAY2NIGHT, EVALUATE_BAG, MULTI_CAMERA}


def test_the_foxglove_layout_shows_topics_of_the_nodes_and_places_every_panel() -> None:
    layout = json.loads((CONFIG / "foxglove_layout.json").read_text(encoding="utf-8"))
    placed: list[str] = []

    def visit(part: Any) -> None:
        if isinstance(part, str):
            placed.append(part)
        else:
            assert part["direction"] in ("row", "column")
            visit(part["first"])
            visit(part["second"])

    visit(layout["layout"])
    assert sorted(placed) == sorted(layout["configById"])
    topics = {panel.get("topicToRender") or panel["imageMode"]["imageTopic"] for panel in layout["configById"].values()}
    assert topics == {
        "/overlay_node/overlay",
        "/segmentation_node/color_mask",
        "/segmentation_node/confidence",
        "/diagnostics",
    }


def panels(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))["configById"]


def image_topics(layout: dict[str, Any]) -> set[str]:
    return {panel["imageMode"]["imageTopic"] for panel in layout.values() if "imageMode" in panel}


def displays(viewer: dict[str, Any]) -> dict[str, str]:
    """Name → topic of what RViz shows."""
    assert (viewer["package"], viewer["executable"], viewer["arguments"][0]) == ("rviz2", "rviz2", "-d")
    path = Path(viewer["arguments"][1])
    shown = yaml.safe_load(path.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    path.unlink()
    return {display["Name"]: display["Topic"]["Value"] for display in shown}


def test_rviz_and_foxglove_follow_namespace_and_camera(tmp_path: Path) -> None:
    layout = tmp_path / "layout.json"
    *_, viewer = run_launch_file(
        SEGMENTATION, namespace="/car/front/", image="camera/image_raw", rviz="true", foxglove_layout=str(layout)
    )
    assert displays(viewer) == {
        "Overlay": "/car/front/overlay_node/overlay",
        "Class map": "/car/front/segmentation_node/color_mask",
        "Confidence": "/car/front/segmentation_node/confidence",
    }
    assert image_topics(panels(layout)) == {
        "/car/front/overlay_node/overlay",
        "/car/front/segmentation_node/color_mask",
        "/car/front/segmentation_node/confidence",
    }
    status = panels(layout)["DiagnosticStatusPanel!segmentation"]
    assert status["selectedHardwareId"] == "/car/front/camera/image_raw"
    assert status["selectedName"] == "car/front/segmentation_node: segmentation"


@pytest.mark.parametrize("one_engine", ["true", "false"])
def test_viewers_of_several_cameras_show_each_of_them(tmp_path: Path, one_engine: str) -> None:
    *_, viewer = run_launch_file(
        MULTI_CAMERA,
        cameras="front,rear",
        one_engine=one_engine,
        rviz="true",
        foxglove_layout=f"{tmp_path}/{{camera}}.json",
    )
    shown = displays(viewer)
    assert shown["front Overlay"] == "/front/overlay_node/overlay"
    assert shown["rear Confidence"] == "/rear/segmentation_node/confidence"
    assert len(shown) == 6
    status = panels(tmp_path / "rear.json")["DiagnosticStatusPanel!segmentation"]
    assert status["selectedHardwareId"] == "/rear/image_raw"
    names = {
        "true": "segmentation_node: segmentation of rear",
        "false": "rear/segmentation_node: segmentation",
    }
    assert status["selectedName"] == names[one_engine]


def test_one_layout_for_several_cameras_is_refused() -> None:
    with pytest.raises(ValueError, match=r"foxglove_layout must hold \{camera\}"):
        run_launch_file(MULTI_CAMERA, cameras="front,rear", foxglove_layout="/layout.json")


@contextmanager
def launched(path: Path, **arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`ros2 launch` without ros2cli."""
    given = [(name, str(value)) for name, value in arguments.items()]
    program = (
        "import sys\n"
        "from launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        f"source = PythonLaunchDescriptionSource({str(path)!r})\n"
        f"include = IncludeLaunchDescription(source, launch_arguments={given!r})\n"
        "service = LaunchService()\n"
        "service.include_launch_description(LaunchDescription([include]))\n"
        "sys.exit(service.run())\n"
    )
    launch = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ), start_new_session=True)
    try:
        yield launch
    finally:
        if launch.poll() is None:
            os.killpg(launch.pid, signal.SIGKILL)
        launch.wait()


def child_of(launch: subprocess.Popen[bytes], executable: str) -> int | None:
    """Process id of a node that launch started."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            parent = re.search(r"PPid:\t(\d+)", (folder / "status").read_text())
        except OSError:
            continue  # no process, or one that just ended
        if parent and int(parent[1]) == launch.pid and executable.encode() in command:
            return int(folder.name)
    return None


@needs_launch
def test_launched_for_real_a_killed_node_is_started_again_and_ctrl_c_ends_all(probe: Probe, tiny_bundle: Path) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import bgr_of, eventually, image

    class_maps = probe.listen(Image, "/front/segmentation_node/class_map")
    overlays = probe.listen(Image, "/front/overlay_node/overlay")
    camera = probe.publisher(Image, "/camera/image_raw")

    def answered() -> bool:
        camera.publish(image(bgr_of((2, 0, 0)), probe.next_stamp()))
        time.sleep(0.05)
        return bool(class_maps.messages and overlays.messages)

    with launched(
        SEGMENTATION, bundle=tiny_bundle, backend="fake", namespace="front", image="/camera/image_raw"
    ) as launch:
        eventually(answered, within_s=40)
        killed = child_of(launch, "segmentation_node")
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: child_of(launch, "segmentation_node") not in (None, killed))
        class_maps.messages.clear()
        eventually(answered, within_s=40, what="class maps of the node that launch started again")
        started_s = time.monotonic()
        os.killpg(launch.pid, signal.SIGINT)  # as a terminal does, to launch and its children
        assert launch.wait(timeout=15) == 0
        assert time.monotonic() - started_s < 4  # launch loses patience after 5 s


@needs_launch
def test_launched_for_real_day_becomes_night_with_its_label(probe: Probe) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.messages import fill_image
    from tests.ros.probe import bgr_of, eventually, header, image

    nights = probe.listen(Image, "/front/day2night_node/night")
    labels = probe.listen(Image, "/front/day2night_node/label")
    camera, labeller = probe.publisher(Image, "/day"), probe.publisher(Image, "/truth")

    def answered() -> bool:
        stamp = probe.next_stamp()
        camera.publish(image(bgr_of((200, 200, 200)), stamp))
        labeller.publish(fill_image(Image(), np.zeros((64, 128), np.uint8), encoding="mono8", header=header(stamp)))
        time.sleep(0.05)
        return bool(nights.messages and labels.messages)

    with launched(DAY2NIGHT, namespace="front", image="/day", label="/truth", pass_labels="true", seed=3) as launch:
        eventually(answered, within_s=40)
        os.killpg(launch.pid, signal.SIGINT)
        assert launch.wait(timeout=15) == 0
    assert set(labels.stamps) <= set(nights.stamps)


@needs_launch
def test_launched_for_real_two_cameras_are_served_side_by_side(probe: Probe, tiny_bundle: Path) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import bgr_of, eventually, image, pixels

    cameras = {name: probe.publisher(Image, f"/{name}/image_raw") for name in ("left", "right")}
    class_maps = {name: probe.listen(Image, f"/{name}/segmentation_node/class_map") for name in cameras}

    def answered() -> bool:
        for blue, camera in enumerate(cameras.values(), start=1):
            camera.publish(image(bgr_of((blue, 0, 0)), probe.next_stamp()))
        time.sleep(0.05)
        return all(inbox.messages for inbox in class_maps.values())

    with launched(MULTI_CAMERA, cameras="left,right", bundle=tiny_bundle, backend="fake") as launch:
        eventually(answered, within_s=40)
        assert [int(pixels(class_maps[name].messages[0])[0, 0]) for name in ("left", "right")] == [1, 2]
        os.killpg(launch.pid, signal.SIGINT)
        assert launch.wait(timeout=15) == 0


def write_drive(path: Path, *, labels: bool = True) -> Path:
    """Two seconds of a drive."""
    drive = SyntheticDrive(seed=1, size_hw=(48, 96), night=True)
    with BagWriter(path) as bag:
        for index in range(10):
            scene, stamp_ns = drive.frame(index), START_STAMP_NS + index * 200_000_000
            bag.write_image(IMAGE_TOPIC, scene.bgr, stamp_ns=stamp_ns, frame_id="camera")
            if labels:
                bag.write_image(LABEL_TOPIC, scene.label_map, stamp_ns=stamp_ns, frame_id="camera", encoding="mono8")
    return path


@needs_launch
@pytest.mark.usefixtures("ros_domain")
def test_launched_for_real_an_evaluation_ends_with_the_bag_and_a_report(tmp_path: Path, tiny_bundle: Path) -> None:
    given = {"bag": write_drive(tmp_path / "bag"), "bundle": tiny_bundle, "backend": "fake"}
    with launched(EVALUATE_BAG, output=tmp_path / "report", at_least="label_maps=10", **given) as launch:
        assert launch.wait(timeout=120) == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["label_maps"] == 10
    assert metrics["class_maps"] >= 8  # on a busy machine a frame may be overtaken by the next
    assert (tmp_path / "report" / "report.html").stat().st_size > 0


@needs_launch
@pytest.mark.usefixtures("ros_domain")
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("no bag", "there is no bag"),
        ("no labels", "has no topic /camera/label_map"),
        ("threshold", "threshold missed: label_maps is 10, must be at least 11"),
    ],
)
def test_launched_for_real_an_evaluation_that_fails_ends_launch_with_another_status_and_the_cause(
    tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str], fault: str, cause: str
) -> None:
    bag = tmp_path / "bag"
    if fault != "no bag":
        write_drive(bag, labels=fault != "no labels")
    given = {"bag": bag, "bundle": tiny_bundle, "backend": "fake", "at_least": "label_maps=11"}
    with launched(EVALUATE_BAG, output=tmp_path / "report", **given) as launch:
        assert launch.wait(timeout=120) == 1
    assert cause in "".join(capfd.readouterr())
    # a report says which threshold was missed; without frames there is none
    assert (tmp_path / "report" / "report.html").exists() == (fault == "threshold")
