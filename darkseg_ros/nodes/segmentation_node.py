"""The node on the vehicle: camera images in, class maps out.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 1 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 1 |
| pub | ``~/class_map`` | …/Image, mono8 train ids, 255 = unlabelled, header as received | reliable, depth 1 |
| pub | ``~/confidence`` | …/Image, mono8, 255 = certain; only while subscribed | reliable, depth 1 |
| pub | ``~/label_info`` | vision_msgs/LabelInfo, or std_msgs/String with JSON | transient local |
| pub | ``/diagnostics`` | diagnostic_msgs/DiagnosticArray, each second and on change | reliable |

Parameters stand in `_PARAMETERS`. Run it with ``ros2 run darkseg_ros segmentation_node`` or
``python -m darkseg_ros.nodes.segmentation_node``.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from darkseg_ros.engine import BACKENDS
from darkseg_ros.errors import DarksegError, ImageMessageError
from darkseg_ros.frame_gate import DropReason, LatestSlot, StampOrder, StampVerdict, stamp_age_ms
from darkseg_ros.image_messages import bgr_from_compressed_image, bgr_from_image, fill_image
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.nodes.label_info import LabelInfoPublisher
from darkseg_ros.nodes.middleware import run_node
from darkseg_ros.nodes.parameters import fixed, fixed_integer, live_integer, live_number
from darkseg_ros.nodes.qos import OVERRIDABLE, newest_frame, publisher_events, result, subscription_events
from darkseg_ros.segmenter import Segmenter
from darkseg_ros.stream_monitor import Health, HealthLevel, StreamFigures, StreamMonitor

_REPORT_PERIOD_S = 1.0
_WATCH_PERIOD_S = 0.1
_LOG_PERIOD_S = 5.0

_TRANSPORTS = ("raw", "compressed")

_PARAMETERS: tuple[tuple[str, Any, ParameterDescriptor], ...] = (
    ("autostart", True, fixed("Configure and activate at start; false leaves that to a lifecycle manager.")),
    ("bundle", "", fixed("Folder of the model bundle; empty means the one that is shipped.")),
    ("backend", "auto", fixed(f"Inference library: {', '.join(BACKENDS)}. auto says which one it took.")),
    ("threads", 0, fixed_integer("CPU threads of the engine; 0 leaves it to the library.", low=0, high=256)),
    ("transport", "raw", fixed("raw subscribes to image, compressed to image/compressed.")),
    (
        "min_confidence",
        0.0,
        live_number("Pixels of less confidence become 255 (unlabelled); 0 keeps all.", low=0.0, high=1.0),
    ),
    (
        "max_age_ms",
        0,
        live_integer("Frames stamped longer ago are dropped before inference; 0 serves all.", low=0, high=60_000),
    ),
    (
        "stale_after_ms",
        1000,
        live_integer(
            "STALE when no image came, ERROR when no class map left for so long; 0 = never.",
            low=0,
            high=600_000,
        ),
    ),
)


@dataclass(frozen=True)
class _LiveSettings:
    """The parameters that may change at run time; replaced as a whole, so that threads need no lock."""

    min_confidence: float
    max_age_ms: int
    stale_after_ms: int


@dataclass(frozen=True)
class _Arrival:
    """A message and when it came, in seconds of the steady clock."""

    message: Image | CompressedImage
    arrived_s: float


class SegmentationNode(LifecycleNode):
    """Segments the newest camera frame, one at a time, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        for name, default, descriptor in _PARAMETERS:
            self.declare_parameter(name, default, descriptor)
        self._live = self._live_settings()

        self._class_map_publisher = self._create_map_publisher("~/class_map")
        self._confidence_publisher = self._create_map_publisher("~/confidence")
        self._label_info = LabelInfoPublisher(self, "~/label_info")
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

        self._segmenter: Segmenter | None = None
        self._subscription: Subscription | None = None
        self._slot: LatestSlot[_Arrival] = LatestSlot()
        self._inference_thread: threading.Thread | None = None
        self._stamps = StampOrder()
        self._monitor = StreamMonitor(now_s=time.monotonic())

        self._idle_health = Health(HealthLevel.WARN, "not configured")
        self._report_lock = threading.Lock()
        self._reported: tuple[float, Health] | None = None
        # a steady clock: with use_sim_time a paused bag would silence the diagnostics
        steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = self.create_timer(_WATCH_PERIOD_S, self._report_when_due, clock=steady_clock)

        self.add_post_set_parameters_callback(self._on_parameters_set)
        if self.get_parameter("autostart").value:
            self._start()

    def destroy_node(self) -> None:
        """End inference and release the engine, then the node."""
        self._stop_inference()
        self._close_segmenter()
        super().destroy_node()

    # --- lifecycle

    def _start(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS and self.context.ok():
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open bundle and engine, and run a first frame: it is slower than all others."""
        self._idle_health = Health(HealthLevel.WARN, "opening the engine")
        self._report()
        try:
            self._open_segmenter()
        except DarksegError as error:
            return self._refuse_to_configure(str(error))
        except Exception as error:  # rclpy would swallow it without a word
            if not self.context.ok():
                return TransitionCallbackReturn.FAILURE  # a signal came: nothing can be published any more
            self.get_logger().error(traceback.format_exc())
            return self._refuse_to_configure(f"{type(error).__name__}: {error}")
        self._idle_health = Health(HealthLevel.WARN, "inactive")
        self._report()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the inference thread."""
        self._slot = LatestSlot()
        self._stamps = StampOrder()  # the next frame may be of another drive
        self._monitor.activate(now_s=time.monotonic())
        self._inference_thread = threading.Thread(target=self._serve_frames, name="inference", daemon=True)
        # before the first frame arrives: an inactive lifecycle publisher swallows what it is given
        outcome = super().on_activate(state)
        self._inference_thread.start()
        self._subscription = self._create_image_subscription()
        self._report()
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in the engine and end the inference thread."""
        self._stop_inference()
        self._report()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the engine."""
        self._close_segmenter()
        self._idle_health = Health(HealthLevel.WARN, "not configured")
        self._report()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End inference and release the engine; the process goes on until it is told to end."""
        self._stop_inference()
        self._close_segmenter()
        self._idle_health = Health(HealthLevel.WARN, "shut down")
        self._report()
        return super().on_shutdown(state)

    def _open_segmenter(self) -> None:
        transport = self.get_parameter("transport").value
        if transport not in _TRANSPORTS:
            raise DarksegError(f"transport must be one of {', '.join(_TRANSPORTS)}, got {transport!r}")
        bundle = Path(self.get_parameter("bundle").value or default_bundle())
        started_s = time.monotonic()
        segmenter = Segmenter.open(
            bundle,
            backend=self.get_parameter("backend").value,
            threads=self.get_parameter("threads").value,
            min_confidence=self._live.min_confidence,
        )
        segmenter(np.zeros((*segmenter.bundle.network_hw, 3), np.uint8))
        self._segmenter = segmenter
        self._monitor = StreamMonitor(now_s=time.monotonic())
        self._label_info.publish(bundle=segmenter.bundle.name, min_confidence=self._live.min_confidence)
        self.get_logger().info(
            f"bundle {segmenter.bundle.name} on {segmenter.engine.name}, "
            f"ready after {time.monotonic() - started_s:.1f} s"
        )

    def _refuse_to_configure(self, reason: str) -> TransitionCallbackReturn:
        self.get_logger().error(f"cannot configure: {reason}")
        self._close_segmenter()
        self._idle_health = Health(HealthLevel.ERROR, f"cannot configure: {reason}")
        self._report()
        return TransitionCallbackReturn.FAILURE

    def _close_segmenter(self) -> None:
        if self._segmenter is not None:
            self._segmenter.close()
            self._segmenter = None

    def _stop_inference(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._slot.close() is not None:
            self._monitor.count_drop(DropReason.DEACTIVATED, now_s=time.monotonic())
        if self._inference_thread is not None:
            self._inference_thread.join()
            self._inference_thread = None

    # --- topics

    def _create_map_publisher(self, topic: str) -> LifecyclePublisher:
        qos = result()
        return self.create_lifecycle_publisher(
            Image,
            topic,
            qos,
            event_callbacks=publisher_events(self, topic),
            qos_overriding_options=OVERRIDABLE(),
        )

    def _create_image_subscription(self) -> Subscription:
        compressed = self.get_parameter("transport").value == "compressed"
        topic = "image/compressed" if compressed else "image"
        qos = newest_frame()
        return self.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            self._on_image,
            qos,
            event_callbacks=subscription_events(self, topic),
            qos_overriding_options=OVERRIDABLE(),
        )

    # --- frames

    def _on_image(self, message: Image | CompressedImage) -> None:
        now_s = time.monotonic()
        self._monitor.count_arrival(now_s=now_s, silence_ms=self._live.stale_after_ms)
        verdict = self._stamps.judge(_stamp_ns(message))
        if verdict is StampVerdict.DUPLICATE:
            self._drop(DropReason.DUPLICATE_STAMP, "it has the stamp of the frame before it")
            return
        if verdict is StampVerdict.BACKWARD:
            self._drop(DropReason.BACKWARD_STAMP, "its stamp is before that of the frame before it")
            return
        if verdict is StampVerdict.REBASED:
            self._monitor.count_rebase()
            self.get_logger().info("the stamps jumped back by more than a second: taken for a new drive")
        if self._slot.put(_Arrival(message, now_s)) is not None:
            self._monitor.count_drop(DropReason.REPLACED, now_s=now_s)

    def _serve_frames(self) -> None:
        while (arrival := self._slot.take()) is not None:
            try:
                self._serve(arrival)
            except ImageMessageError as error:
                self._drop(DropReason.UNDECODABLE, str(error))
            except Exception as error:  # whatever one frame does to the engine, the next one may be served
                if not self.context.ok():
                    return  # the middleware is gone: the process ends
                self._drop(DropReason.ENGINE_ERROR, f"{type(error).__name__}: {error}")

    def _serve(self, arrival: _Arrival) -> None:
        assert self._segmenter is not None
        age_ms = self._stamp_age_ms(arrival)
        if self._live.max_age_ms and age_ms is not None and age_ms > self._live.max_age_ms:
            self._drop(DropReason.TOO_OLD, "it was stamped longer ago than max_age_ms")
            return
        bgr = _decode(arrival.message)
        self._segmenter.min_confidence = self._live.min_confidence
        segmentation = self._segmenter(bgr)
        header = arrival.message.header
        self._class_map_publisher.publish(fill_image(Image(), segmentation.class_map, encoding="mono8", header=header))
        self._monitor.count_published(
            now_s=time.monotonic(),
            arrived_s=arrival.arrived_s,
            inference_ms=segmentation.inference_ms,
            stamp_age_ms=self._stamp_age_ms(arrival),
        )
        if self._confidence_publisher.get_subscription_count():
            self._confidence_publisher.publish(
                fill_image(Image(), segmentation.confidence, encoding="mono8", header=header)
            )

    def _drop(self, reason: DropReason, error: str) -> None:
        self._monitor.count_drop(reason, now_s=time.monotonic(), error=error)
        line = f"no class map for a frame ({reason.value}): {error}"
        if reason is DropReason.ENGINE_ERROR:
            self.get_logger().error(line, throttle_duration_sec=_LOG_PERIOD_S)
            self._report()  # the next frame may clear it before the watch looks
        else:
            self.get_logger().warning(line, throttle_duration_sec=_LOG_PERIOD_S)

    def _stamp_age_ms(self, arrival: _Arrival) -> float | None:
        return stamp_age_ms(
            _stamp_ns(arrival.message),
            self.get_clock().now().nanoseconds,
            simulated_clock=self.get_clock().ros_time_is_active,
        )

    # --- parameters

    def _live_settings(self) -> _LiveSettings:
        return _LiveSettings(
            min_confidence=self.get_parameter("min_confidence").value,
            max_age_ms=self.get_parameter("max_age_ms").value,
            stale_after_ms=self.get_parameter("stale_after_ms").value,
        )

    def _on_parameters_set(self, _: list[Parameter]) -> None:
        before, self._live = self._live, self._live_settings()
        if self._segmenter is not None and self._live.min_confidence != before.min_confidence:
            self._label_info.publish(bundle=self._segmenter.bundle.name, min_confidence=self._live.min_confidence)

    # --- diagnostics

    def _health(self) -> Health:
        if self._inference_thread is None:
            return self._idle_health
        return self._monitor.assess(
            now_s=time.monotonic(),
            stale_after_ms=self._live.stale_after_ms,
            max_age_ms=self._live.max_age_ms,
        )

    def _report_when_due(self) -> None:
        health = self._health()
        reported = self._reported
        if reported is None or health != reported[1] or time.monotonic() - reported[0] >= _REPORT_PERIOD_S:
            self._report()

    def _report(self) -> None:
        if not self.context.ok():
            return
        with self._report_lock:
            health = self._health()
            self._reported = (time.monotonic(), health)
            self._diagnostics_publisher.publish(self._diagnostic_array(health))

    def _diagnostic_array(self, health: Health) -> DiagnosticArray:
        segmenter = self._segmenter
        values = {
            "state": "active" if self._inference_thread else "inactive" if segmenter else "unconfigured",
            "backend": self.get_parameter("backend").value,
            "engine": segmenter.engine.name if segmenter else "",
            "bundle": segmenter.bundle.name if segmenter else self.get_parameter("bundle").value,
            **_figure_values(self._monitor.figures(now_s=time.monotonic())),
        }
        status = DiagnosticStatus(
            level=bytes([health.level]),
            name=f"{self.get_fully_qualified_name().lstrip('/')}: segmentation",
            message=health.summary,
            hardware_id=self.resolve_topic_name("image"),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        return array


def _decode(message: Image | CompressedImage) -> np.ndarray:
    if isinstance(message, CompressedImage):
        return bgr_from_compressed_image(message)
    return bgr_from_image(message)


def _stamp_ns(message: Image | CompressedImage) -> int:
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _figure_values(figures: StreamFigures) -> dict[str, str]:
    measured = {
        "inference_ms": figures.inference_ms,
        "latency_p50_ms": figures.latency_p50_ms,
        "latency_p99_ms": figures.latency_p99_ms,
        "stamp_age_p50_ms": figures.stamp_age_p50_ms,
        "stamp_age_p99_ms": figures.stamp_age_p99_ms,
    }
    return {
        "frames_in": str(figures.frames_in),
        "frames_published": str(figures.frames_published),
        "frames_in_progress": str(figures.frames_in_progress),
        **{f"dropped_{reason.value}": str(count) for reason, count in figures.frames_dropped.items()},
        "stamp_rebases": str(figures.stamp_rebases),
        "rate_in_hz": f"{figures.rate_in_hz:.1f}",
        "rate_out_hz": f"{figures.rate_out_hz:.1f}",
        **{name: "" if value is None else f"{value:.1f}" for name, value in measured.items()},
        "last_error": figures.last_error,
    }


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros segmentation_node``."""
    return run_node(SegmentationNode)


if __name__ == "__main__":
    sys.exit(main())
