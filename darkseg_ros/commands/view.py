"""`darkseg view`: a page in the browser that shows a live node, or a file as a model sees it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from darkseg_ros.commands.options import add_model_options, open_segmenter
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import FrameSource, open_frames
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.pictures.live_page import LiveFrame, LiveHealth, LivePage
from darkseg_ros.stream.camera_guard import FLAG, camera_verdict
from darkseg_ros.stream.camera_health import CameraCondition, CameraHealth, camera_values
from darkseg_ros.stream.monitor import HealthLevel, StreamMonitor

_PORT = 8765
_CLASS_MAP_TOPIC = "/segmentation_node/class_map"
_FOLDER_RATE_HZ = 1.0
_ASLEEP_S = 0.5


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = (
        "Show camera, class map and overlay side by side in the browser, with confidence, camera health, rates, age "
        "and drops: of a running segmentation_node, or of a file, which a model segments. The page is served to this "
        "machine only, until Ctrl-C."
    )
    parser.add_argument("input", nargs="?", type=Path, help="image, folder, video or bag; without it a live node")
    parser.add_argument("--port", type=int, default=_PORT, help="of the page; 0 takes a free one; default: %(default)s")
    parser.add_argument("--class-map", help=f"topic of a live node; default: {_CLASS_MAP_TOPIC}")
    parser.add_argument("--image", help="the camera's topic; default: the one that the live node listens to")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    try:
        if arguments.input is None:
            _view_node(arguments)
        else:
            _view_file(arguments)
    except KeyboardInterrupt:
        pass  # the way to end it


def _view_node(arguments: argparse.Namespace) -> None:
    try:
        from darkseg_ros.nodes.stream_viewer import StreamViewer
    except ImportError as error:
        raise InputError(
            f"a live node needs ROS 2 ({error}); source a ROS 2 installation, or name a file to look at"
        ) from error
    class_map_topic = arguments.class_map or _CLASS_MAP_TOPIC
    with LivePage(title=class_map_topic, port=arguments.port) as page:
        print(f"{page.url}  (Ctrl-C ends it)", flush=True)
        viewer = StreamViewer(page, class_map_topic=class_map_topic, image_topic=arguments.image)
        try:
            viewer.wait()
        finally:
            viewer.close()


def _view_file(arguments: argparse.Namespace) -> None:
    source = open_frames(arguments.input, topic=arguments.topic)
    segmenter = open_segmenter(arguments)
    try:
        with LivePage(title=source.path.name, port=arguments.port) as page:
            print(f"{page.url}  (Ctrl-C ends it)", flush=True)
            show_file(source, segmenter, page)
            while True:
                time.sleep(_ASLEEP_S)
    finally:
        segmenter.close()


def show_file(source: FrameSource, segmenter: Segmenter, page: LivePage) -> None:
    """Segment every frame and show it, no faster than it was recorded.

    Args:
        source: images without a clock are shown one a second.
        segmenter: runs on every frame.
        page: shows them.
    """
    monitor, health_of_camera = StreamMonitor(now_s=time.monotonic()), CameraHealth()
    camera: CameraCondition | None = None

    def health(summary: str) -> LiveHealth:
        verdict = None if camera is None else camera_verdict(camera, on_unhealthy_camera=FLAG)
        figures = monitor.figures(now_s=time.monotonic())
        values = {
            "engine": segmenter.engine.name,
            "bundle": segmenter.bundle.name,
            **camera_values(camera),
            **figures.values(),
        }
        if verdict is None:
            return LiveHealth(HealthLevel.OK.name, summary, values)
        return LiveHealth(verdict.level.name, f"{summary}; {verdict.summary}", values)

    started_s, first_ns = time.monotonic(), None
    for number, frame in enumerate(source):
        first_ns = frame.stamp_ns if first_ns is None else first_ns
        due_s = number / _FOLDER_RATE_HZ if source.rate_hz is None else (frame.stamp_ns - first_ns) / 1e9
        time.sleep(max(0.0, started_s + due_s - time.monotonic()))
        arrived_s = time.monotonic()
        monitor.count_arrival(now_s=arrived_s, silence_ms=0)
        camera = health_of_camera.check(frame.bgr)
        segmentation = segmenter(frame.bgr)
        confidence = float(segmentation.confidence.mean()) / 255
        page.show(LiveFrame(frame.bgr, segmentation.class_map, confidence, segmenter.bundle.classes))
        monitor.count_published(
            now_s=time.monotonic(), arrived_s=arrived_s, inference_ms=segmentation.inference_ms, stamp_age_ms=None
        )
        page.tell(health("running"))
    page.tell(health(f"{source.path.name} has ended"))
