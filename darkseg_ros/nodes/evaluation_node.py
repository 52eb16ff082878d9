"""Scores class maps against label maps while they are published, and writes the report of `darkseg evaluate`.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 10 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 10 |
| sub | ``label`` | …/Image, mono8 train ids, 255 = no ground truth | reliable, depth 10 |
| sub | ``class_map`` | …/Image, mono8 train ids, 255 = unlabelled | reliable, depth 10 |
| sub | ``confidence`` beside ``class_map`` (unless ``with_confidence:=false``) | …/Image, mono8, 255 = certain | same |
| pub | ``~/metrics`` | std_msgs/String: JSON of the figures so far, each second | reliable, depth 1 |
| pub | ``~/taken`` | std_msgs/Header of each class map taken in, for `bag play --lockstep` | reliable, depth 10 |
| srv | ``~/write_report`` | std_srvs/Trigger: write report.html and metrics.json to ``output`` now | |

What belongs together has equal stamps. Frames wait for their parts, the oldest of more than ``buffered_frames`` is
scored with what it has. At the end of the process the report is written once more. Exit status: 1 when there was
nothing to report, 3 when a threshold of `at_least` or `at_most` was missed.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import ImageMessageError, InputError
from darkseg_ros.evaluation.drive import DriveEvaluation, EvaluatedInput, Part
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE
from darkseg_ros.evaluation.report import REPORT_FILE, check_output, write_report
from darkseg_ros.evaluation.thresholds import Threshold, check_classes, figures_of, judge
from darkseg_ros.frames.messages import label_map_from_image
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.model.bundle import load_classes
from darkseg_ros.nodes.command_line import node_main
from darkseg_ros.nodes.image_subscription import ReceivedImage, subscribe_to_images, transport_choice
from darkseg_ros.nodes.parameters import (
    check_choices,
    declare_parameters,
    integer,
    number,
    parameter_values,
    switch,
    text,
    texts,
)
from darkseg_ros.nodes.qos import advertise, result, subscribe
from darkseg_ros.stream.frame_gate import stamp_age_ms

_INPUT_DEPTH = 10  # scoring a frame, or a report, may take longer than a camera's period
_METRICS_PERIOD_S = 1.0
_LOG_PERIOD_S = 5.0
_NO_REPORT = 1
_THRESHOLD_MISSED = 3  # as of `darkseg evaluate`


@dataclass(frozen=True)
class EvaluationParameters:
    """The parameters of evaluation_node; all are settled at start."""

    transport: str = transport_choice()
    bundle: str = text(
        "",
        values="folder",
        means="Model bundle that the class maps come from, for its class table; empty: Cityscapes' 19 classes.",
    )
    output: str = text("", values="folder", means="Folder for report.html and metrics.json; empty: none is written.")
    with_confidence: bool = switch(True, means="Subscribe to confidence, for ECE and UIoU; false where there is none.")
    uiou_min_confidence: float = number(
        UIOU_MIN_CONFIDENCE, low=0.0, high=1.0, means="The UIoU takes predictions of less confidence for invalid."
    )
    at_least: tuple[str, ...] = texts(
        values="FIGURE=LIMIT",
        means="Thresholds on figures of metrics.json, such as miou_present=0.2; one that is missed makes the exit "
        "status 3. One empty text: none.",
    )
    at_most: tuple[str, ...] = texts(
        values="FIGURE=LIMIT", means="The same for upper limits, such as latency_p99_ms=50."
    )
    buffered_frames: int = integer(
        30, low=1, high=300, means="Frames that wait for their parts: camera rate × delay of the slowest part."
    )


class EvaluationNode(Node):
    """Feeds messages to a `DriveEvaluation`.

    Attributes:
        exit_status: of the process, settled when the node ends.

    Raises:
        DarksegError: if a parameter is none of its choices, a threshold is none, or nothing can be written to `output`.
    """

    def __init__(self) -> None:
        super().__init__("evaluation_node")
        declare_parameters(self, EvaluationParameters)
        self._given = parameter_values(self, EvaluationParameters)
        check_choices(self._given)
        if self._given.output:
            check_output(Path(self._given.output))
        self.exit_status = 0
        self._unusable = 0
        parts: set[Part] = {"image", "label_map", "class_map"}
        if self._given.with_confidence:
            parts.add("confidence")
        expected = frozenset(parts)
        self._evaluation = DriveEvaluation(
            lambda _: expected,
            capacity=self._given.buffered_frames,
            on_unusable=self._on_unusable,
            classes=load_classes(self._given.bundle) if self._given.bundle else CITYSCAPES,
            uiou_min_confidence=self._given.uiou_min_confidence,
        )
        self._thresholds = _thresholds(self._given, self._evaluation.evaluation.classes)
        self._publisher = advertise(self, String, "~/metrics", result())
        self._taken_publisher = advertise(self, Header, "~/taken", result(_INPUT_DEPTH))
        self.create_service(Trigger, "~/write_report", self._on_write_report)
        subscribe_to_images(self, self._on_image, depth=_INPUT_DEPTH)
        self._topic_of_part: dict[Part, str] = {
            "label_map": self.resolve_topic_name("label"),
            "class_map": self.resolve_topic_name("class_map"),
        }
        if "confidence" in expected:
            # one remapping moves both: segmentation_node publishes them side by side
            self._topic_of_part["confidence"] = f"{self._topic_of_part['class_map'].rpartition('/')[0]}/confidence"
        for part, topic in self._topic_of_part.items():
            subscribe(self, Image, topic, partial(self._on_map, part), result(_INPUT_DEPTH))
        # a steady clock: with use_sim_time a paused bag would silence the figures
        steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_METRICS_PERIOD_S, self._publish_metrics, clock=steady_clock)
        self.get_logger().info(
            f"ready: scores {self._topic_of_part['class_map']} by {self._topic_of_part['label_map']}"
        )

    def destroy_node(self) -> None:
        """Score what still waits, write the report and judge the thresholds, then end the node."""
        self._evaluation.finish()
        if self._given.output or self._thresholds:
            self.exit_status, verdict = self._conclude()
            # ROS is shut down by now, and its logging with it
            print(f"evaluation_node: {verdict}", file=sys.stderr, flush=True)
        super().destroy_node()

    def _conclude(self) -> tuple[int, str]:
        """The exit status and what to tell."""
        written, verdict = self._try_to_write() if self._given.output else (True, "")
        if not written:
            return _NO_REPORT, verdict
        try:
            judged = judge(self._evaluation.result(), self._thresholds)
        except ValueError:
            return _NO_REPORT, "nothing was scored, so no threshold is met"
        missed = [
            f"{result.figure} is {'unknown' if result.value is None else f'{result.value:.4g}'}, "
            f"must be {result.bound} {result.limit:g}"
            for result in judged
            if not result.passed
        ]
        lines = [verdict, *([f"threshold missed: {'; '.join(missed)}"] if missed else [])]
        return _THRESHOLD_MISSED if missed else 0, "; ".join(filter(None, lines)) or "every threshold was met"

    def _on_image(self, image: ReceivedImage) -> None:
        self._evaluation.put(stamp_ns_of(image.header), image=image.bgr, image_at_ns=time.monotonic_ns())

    def _on_map(self, part: Part, message: Image) -> None:
        arrived_ns = time.monotonic_ns()
        stamp_ns = stamp_ns_of(message.header)
        try:
            parts: dict[str, Any] = {part: label_map_from_image(message)}
        except ImageMessageError as error:
            self._on_unusable(f"a message of {self._topic_of_part[part]}: {error}")
            self._acknowledge(part, message)
            return
        if part == "class_map":
            clock = self.get_clock()
            parts["class_map_at_ns"] = arrived_ns
            parts["class_map_age_ms"] = stamp_age_ms(
                stamp_ns, clock.now().nanoseconds, simulated_clock=clock.ros_time_is_active
            )
        self._evaluation.put(stamp_ns, **parts)
        self._acknowledge(part, message)

    def _acknowledge(self, part: Part, message: Image) -> None:
        if part == "class_map":
            self._taken_publisher.publish(message.header)

    def _on_unusable(self, reason: str) -> None:
        self._unusable += 1
        if self.context.ok():
            self.get_logger().warning(f"not scored: {reason}", throttle_duration_sec=_LOG_PERIOD_S)

    def _publish_metrics(self) -> None:
        try:
            metrics = self._evaluation.evaluation.metrics(intervals=False)
        except ValueError:
            metrics = None  # nothing to compare yet
        content = {
            **figures_of(metrics, self._evaluation.figures(), self._evaluation.evaluation.classes),
            "unusable": self._unusable,
        }
        self._publisher.publish(String(data=json.dumps(content, allow_nan=False)))

    def _on_write_report(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._try_to_write()
        return response

    def _try_to_write(self) -> tuple[bool, str]:
        """Whether it worked, and what to tell."""
        output = self._given.output
        if not output:
            return False, "the parameter output is empty; start the node with a folder to write to"
        class_map, label_map = self._topic_of_part["class_map"], self._topic_of_part["label_map"]
        evaluated = EvaluatedInput(
            name=class_map,
            comparison=f"Class maps of {class_map} against the label maps of {label_map}, as they were published.",
            sha256=None,
        )
        try:
            drive = self._evaluation.result()
            write_report(drive, evaluated, thresholds=judge(drive, self._thresholds), out=Path(output))
        except ValueError:
            figures = self._evaluation.figures()
            return False, (
                f"no report: {figures.class_maps} class maps of {class_map} and {figures.label_maps} label maps of "
                f"{label_map} came, none with equal stamps and ground truth"
            )
        except InputError as error:
            return False, f"no report: {error}"
        return True, f"{self._evaluation.scored} frames scored, report in {Path(output) / REPORT_FILE}"


def _thresholds(given: EvaluationParameters, classes: ClassTable) -> tuple[Threshold, ...]:
    bounds: tuple[tuple[Literal["at least", "at most"], tuple[str, ...]], ...] = (
        ("at least", given.at_least),
        ("at most", given.at_most),
    )
    try:
        thresholds = tuple(Threshold.parse(bound, line) for bound, lines in bounds for line in lines if line)
        check_classes(thresholds, classes)
    except ValueError as error:
        raise InputError(f"at_least and at_most: {error}") from error
    return thresholds


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros evaluation_node``."""
    return node_main("evaluation_node", EvaluationNode, EvaluationParameters, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())
