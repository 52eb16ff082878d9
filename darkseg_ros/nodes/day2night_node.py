"""Day frames in, the same frames by night out: to collect and to test, not for the vehicle in traffic.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 1 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 1 |
| sub | ``label`` (``pass_labels:=true``) | …/Image | best effort, depth 10 |
| pub | ``~/night`` | …/Image, bgr8, size and header as received | reliable, depth 1 |
| pub | ``~/label`` (``pass_labels:=true``) | …/Image, unchanged, once its night frame left | reliable, depth 1 |
| pub | ``/diagnostics`` | diagnostic_msgs/DiagnosticArray, each second and on change | reliable |

A night frame is a function of the day frame, its stamp and the parameters: which frames were dropped before it does not
matter, nor does a restart. Parameters stand in `Day2NightParameters`; all but ``stale_after_ms`` are settled at start.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from darkseg_ros.errors import ImageMessageError, one_line
from darkseg_ros.frames.messages import fill_image
from darkseg_ros.frames.stamp_matcher import StampMatcher
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.model.translator import TRANSLATOR_BACKENDS
from darkseg_ros.night.day_to_night import NightSettings, open_day_to_night
from darkseg_ros.nodes.command_line import node_main
from darkseg_ros.nodes.diagnostics import DiagnosticsReporter, Subject
from darkseg_ros.nodes.image_subscription import ReceivedImage, subscribe_to_images, transport_choice
from darkseg_ros.nodes.package_log import PackageLog
from darkseg_ros.nodes.parameters import (
    check_choices,
    choice,
    declare_parameters,
    integer,
    number,
    parameter_values,
    switch,
    text,
)
from darkseg_ros.nodes.qos import advertise, newest_frame, result, subscribe
from darkseg_ros.stream.batching import BatchRule, LatestFrames
from darkseg_ros.stream.frame_gate import DropReason, StampOrder, StampVerdict, stamp_age_ms
from darkseg_ros.stream.monitor import Health, StreamMonitor

_LOG_PERIOD_S = 5.0
_STOP_WITHIN_S = 0.3  # the process ends within a second; what a slow or stuck library still does is lost
_LABEL_DEPTH = 10
_WAITING_LABELS = 32
"""Labels that wait for their night frame, and night frames for their label."""

_AT_ONCE = BatchRule(window_s=0.0, silent_after_s=0.0)


@dataclass(frozen=True)
class Day2NightParameters:
    """The parameters of day2night_node."""

    bundle: str = text("", values="folder", means="Folder of a translator's bundle; empty: darken without a model.")
    backend: str = choice("auto", choices=TRANSLATOR_BACKENDS, means="Inference library of the bundle.")
    threads: int = integer(0, low=0, high=256, means="CPU threads of the bundle; 0 leaves the number to the library.")
    transport: str = transport_choice()
    pass_labels: bool = switch(False, means="Publish the label of each night frame, taken from the topic label.")
    seed: int = integer(
        0, low=0, high=2**31 - 1, means="Without a bundle: settles lamps, sky glow and noise of the drive."
    )
    night_images: str = text(
        "",
        values="folder",
        means="Without a bundle: folder of night images, of which the seed takes one for its light; empty: none.",
    )
    strength: float = number(
        NightSettings.strength,
        low=0.0,
        high=1.0,
        means="Without a bundle: 0 leaves the day's light, 1 takes the night's.",
    )
    noise: float = number(
        NightSettings.noise,
        low=0.0,
        high=50.0,
        means="Without a bundle: standard deviation of sensor noise, grey levels.",
    )
    stale_after_ms: int = integer(
        1000,
        low=0,
        high=600_000,
        live=True,
        means="STALE when no image came, ERROR when no night frame left for so long; 0: never.",
    )


@dataclass(frozen=True)
class _Arrival:
    """An image and when it came, in seconds of the steady clock."""

    image: ReceivedImage
    arrived_s: float


class Day2NightNode(Node):
    """Turns the newest camera frame into night, one at a time, in a thread of its own.

    Raises:
        DarksegError: if the bundle or the folder of night images cannot be used, or a parameter is none of its
            choices.
    """

    def __init__(self) -> None:
        super().__init__("day2night_node")
        self._package_log = PackageLog(self)
        declare_parameters(self, Day2NightParameters)
        given = parameter_values(self, Day2NightParameters)
        check_choices(given)
        self._frames: LatestFrames[_Arrival] = LatestFrames(lambda: _AT_ONCE)
        self._stamps = StampOrder()
        self._night_publisher = advertise(self, Image, "~/night", result())

        started_s = time.monotonic()
        self._day_to_night = open_day_to_night(_night_settings(given))
        opened_s = time.monotonic() - started_s

        self._monitor = StreamMonitor(now_s=time.monotonic(), answer="night frame")
        self._diagnostics = DiagnosticsReporter(
            self, [Subject(task="day to night", topic="image", assess=self._health, values=self._values)]
        )
        self._worker = threading.Thread(target=self._serve_frames, name="day_to_night", daemon=True)
        self._worker.start()
        self._labels: _LabelsOfNightFrames | None = None
        if given.pass_labels:
            self._labels = _LabelsOfNightFrames(advertise(self, Image, "~/label", result()))
            subscribe(self, Image, "label", self._labels.put_label, newest_frame(_LABEL_DEPTH))
        subscription = subscribe_to_images(self, self._on_image)
        self._diagnostics.watch()
        self.get_logger().info(
            f"ready after {opened_s:.1f} s: turns {subscription.topic_name} into {self._night_publisher.topic_name}, "
            f"{self._day_to_night.name}"
        )

    def destroy_node(self) -> None:
        """End the thread, then the node."""
        self._frames.close()
        self._worker.join(_STOP_WITHIN_S)
        self._day_to_night.close()
        self._package_log.close()
        super().destroy_node()

    def _on_image(self, image: ReceivedImage) -> None:
        now_s = time.monotonic()
        self._monitor.count_arrival(now_s=now_s, silence_ms=self.get_parameter("stale_after_ms").value)
        self._monitor.count_lost_packets(image.lost_packets)
        verdict = self._stamps.judge(stamp_ns_of(image.header))
        if verdict is StampVerdict.DUPLICATE:
            self._drop(DropReason.DUPLICATE_STAMP, "it has the stamp of the frame before it")
            return
        if verdict is StampVerdict.BACKWARD:
            self._drop(DropReason.BACKWARD_STAMP, "its stamp is before that of the frame before it")
            return
        if verdict is StampVerdict.REBASED:
            self._monitor.count_rebase()
        if self._frames.put("image", _Arrival(image, now_s)) is not None:
            self._monitor.count_drop(DropReason.REPLACED, now_s=now_s)

    def _serve_frames(self) -> None:
        while batch := self._frames.take(1):
            (arrival,) = batch
            try:
                self._serve(arrival)
            except ImageMessageError as error:
                self._drop(DropReason.UNDECODABLE, str(error))
            except Exception as error:  # whatever one frame does to the engine, the next one may be served
                if not self.context.ok():
                    return  # the middleware is gone: the process ends
                self._drop(DropReason.ENGINE_ERROR, f"{type(error).__name__}: {one_line(error)}")

    def _serve(self, arrival: _Arrival) -> None:
        header = arrival.image.header
        day_bgr = arrival.image.bgr()
        started_s = time.monotonic()
        night_bgr = self._day_to_night(day_bgr, stamp_ns=stamp_ns_of(header))
        inference_ms = (time.monotonic() - started_s) * 1000
        self._night_publisher.publish(fill_image(Image(), night_bgr, encoding="bgr8", header=header))
        if self._labels is not None:
            self._labels.put_night(stamp_ns_of(header))
        self._monitor.count_published(
            now_s=time.monotonic(),
            arrived_s=arrival.arrived_s,
            inference_ms=inference_ms,
            stamp_age_ms=stamp_age_ms(
                stamp_ns_of(header),
                self.get_clock().now().nanoseconds,
                simulated_clock=self.get_clock().ros_time_is_active,
            ),
        )

    def _drop(self, reason: DropReason, error: str) -> None:
        self._monitor.count_drop(reason, now_s=time.monotonic(), error=error)
        self.get_logger().warning(
            f"no night frame for a frame ({reason.value}): {error}", throttle_duration_sec=_LOG_PERIOD_S
        )
        if reason is DropReason.ENGINE_ERROR:
            self._diagnostics.report()  # the next frame may clear it before the watch looks

    def _health(self) -> Health:
        return self._monitor.assess(
            now_s=time.monotonic(),
            stale_after_ms=self.get_parameter("stale_after_ms").value,
            max_age_ms=0,
            engine_timeout_ms=0,
            engine_busy_ms=0,
        )

    def _values(self) -> dict[str, str]:
        return {
            "night": self._day_to_night.name,
            **self._monitor.figures(now_s=time.monotonic()).values(),
        }


def _night_settings(given: Day2NightParameters) -> NightSettings:
    return NightSettings(
        bundle=Path(given.bundle) if given.bundle else None,
        seed=given.seed,
        night_images=Path(given.night_images) if given.night_images else None,
        strength=given.strength,
        noise=given.noise,
        backend=given.backend,
        threads=given.threads,
    )


class _LabelsOfNightFrames:
    """Passes on a label once the night frame of its stamp has left; called from both of the node's threads."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._matcher: StampMatcher[int, Image] = StampMatcher(_WAITING_LABELS)

    def put_night(self, stamp_ns: int) -> None:
        with self._lock:
            self._publish(self._matcher.put_left(stamp_ns, stamp_ns))

    def put_label(self, label: Image) -> None:
        stamp_ns = stamp_ns_of(label.header)
        with self._lock:
            self._publish(self._matcher.put_right(stamp_ns, label))

    def _publish(self, pair: tuple[int, Image] | None) -> None:
        if pair is not None:
            self._publisher.publish(pair[1])


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros day2night_node``."""
    return node_main("day2night_node", Day2NightNode, Day2NightParameters, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())
