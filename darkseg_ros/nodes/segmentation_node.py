"""The node on the vehicle: camera images in, class maps out.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 1 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 1 |
| pub | ``~/class_map`` | …/Image, mono8 train ids, 255 = unlabelled, header as received | reliable, depth 1 |
| pub | ``~/confidence`` | …/Image, mono8, 255 = certain; only while subscribed | reliable, depth 1 |
| pub | ``~/label_info`` | vision_msgs/LabelInfo, or std_msgs/String with JSON | transient local |
| pub | ``/diagnostics`` | diagnostic_msgs/DiagnosticArray, each second and on change | reliable |

Parameters stand in `darkseg_ros.nodes.segmentation_parameters`. Run it with ``ros2 run darkseg_ros segmentation_node``
or ``python -m darkseg_ros.nodes.segmentation_node``.

Three threads: the executor's stores frames and answers services; `InferenceThread` owns the engine and publishes class
maps; `LifecycleThread` runs the transitions, which may wait for the engine.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import QoSSubscriptionMatchedInfo
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from darkseg_ros.camera_guard import CameraGuard, camera_verdict
from darkseg_ros.camera_health import CameraCondition
from darkseg_ros.errors import DarksegError, EngineError, ImageMessageError
from darkseg_ros.frame_gate import DropReason, StampOrder, StampVerdict, is_from_the_future, stamp_age_ms
from darkseg_ros.image_messages import bgr_from_compressed_image, bgr_from_image, fill_image
from darkseg_ros.inference_thread import Delivery, InferenceThread
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.nodes.diagnostics import DiagnosticsReporter, camera_values, stream_values
from darkseg_ros.nodes.label_info import LabelInfoPublisher
from darkseg_ros.nodes.lifecycle_thread import LifecycleThread
from darkseg_ros.nodes.middleware import release_memory, run_node
from darkseg_ros.nodes.parameters import check_choices
from darkseg_ros.nodes.qos import OVERRIDABLE, newest_frame, publisher_events, result, subscription_events
from darkseg_ros.nodes.segmentation_parameters import CHOICES, LiveSettings, declare_parameters
from darkseg_ros.segmenter import Segmentation, Segmenter
from darkseg_ros.stamps import stamp_ns_of
from darkseg_ros.stream_monitor import Health, HealthLevel, StreamMonitor

_LOG_PERIOD_S = 5.0

_FRAME_END_S = 2.0
"""A transition waits so long for the frame in the engine, then gives the engine up."""

_PROCESS_END_S = 0.3
"""The same when the process ends; the whole end may take a second."""


@dataclass(frozen=True)
class _Arrival:
    """A message and when it came, in seconds of the steady clock."""

    message: Image | CompressedImage
    arrived_s: float


class SegmentationNode(LifecycleNode):
    """Segments the newest camera frame, one at a time, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        declare_parameters(self)
        self._live = LiveSettings.of(self)

        self._class_map_publisher = self._create_map_publisher("~/class_map")
        self._confidence_publisher = self._create_map_publisher("~/confidence")
        self._label_info = LabelInfoPublisher(self, "~/label_info")

        self._inference: InferenceThread[_Arrival] | None = None
        self._opening_since_s: float | None = None
        self._bundle_name = ""
        self._engine_name = ""
        self._subscription: Subscription | None = None
        self._monitor = StreamMonitor(now_s=time.monotonic())
        self._camera: CameraCondition | None = None
        self._guard = CameraGuard()
        self._stamps = StampOrder()
        # a bag that starts again: its clock and its frames come by different topics, in any order
        self._clock_jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=lambda _: self._stamps.clock_jumped_back(),
        )

        self._idle_health = Health(HealthLevel.WARN, "not configured")
        self._diagnostics = DiagnosticsReporter(
            self, task="segmentation", topic="image", assess=self._health, values=self._values
        )
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._lifecycle = LifecycleThread(self, on_transition=self._diagnostics.report)
        if self.get_parameter("autostart").value:
            self._lifecycle.submit(self._autostart)

    def destroy_node(self) -> None:
        """End inference and release the engine, then the node; an engine that hangs is left behind."""
        if self._inference is not None:
            self._inference.stop(within_s=_PROCESS_END_S)
        self._lifecycle.stop(within_s=_PROCESS_END_S)
        super().destroy_node()

    # --- lifecycle, in the thread of `LifecycleThread`

    def _autostart(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, open bundle and engine, and run a first frame: it is slower than all others."""
        outcome = self._attempt("configure", self._configure)
        return super().on_configure(state) if outcome == TransitionCallbackReturn.SUCCESS else outcome

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the engine unless it is, and subscribe."""
        # before the first frame arrives: an inactive lifecycle publisher swallows what it is given
        super().on_activate(state)
        outcome = self._attempt("activate", self._activate)
        if outcome != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in the engine and release its memory."""
        outcome = self._attempt("deactivate", partial(self._end_stream, "inactive"))
        super().on_deactivate(state)
        return outcome

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the engine, if it was opened and never activated."""
        outcome = self._attempt("clean up", partial(self._end_stream, "not configured"))
        super().on_cleanup(state)
        return outcome

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End inference and release the engine; the process goes on until it is told to end."""
        outcome = self._attempt("shut down", partial(self._end_stream, "shut down"))
        super().on_shutdown(state)
        return outcome

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, whatever went wrong; the reason stays on /diagnostics."""
        reason = self._idle_health
        self._attempt("recover", partial(self._end_stream, ""))
        for publisher in (self._class_map_publisher, self._confidence_publisher):
            publisher.on_deactivate(state)
        self._idle_health = reason
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        """FAILURE (back to the state before) for an expected error, ERROR for any other: rclpy would swallow both."""
        try:
            action()
            self._lifecycle.leave_if_the_process_ends()
            return TransitionCallbackReturn.SUCCESS
        except _EngineStuckError as error:
            reason, outcome = str(error), TransitionCallbackReturn.ERROR
        except DarksegError as error:
            reason, outcome = str(error), TransitionCallbackReturn.FAILURE
        except Exception as error:
            reason, outcome = f"{type(error).__name__}: {error}", TransitionCallbackReturn.ERROR
            self._lifecycle.leave_if_the_process_ends()
            self.get_logger().error(traceback.format_exc())
        self._lifecycle.leave_if_the_process_ends()
        self.get_logger().error(f"cannot {what}: {reason}")
        self._idle_health = Health(HealthLevel.ERROR, f"cannot {what}: {reason}")
        return outcome

    def _configure(self) -> None:
        check_choices(self, CHOICES)
        self._monitor = StreamMonitor(now_s=time.monotonic())
        self._open_engine()
        self._idle_health = Health(HealthLevel.WARN, "inactive")

    def _activate(self) -> None:
        if self._inference is None:
            self._open_engine()
        self._camera, self._guard, self._stamps = None, CameraGuard(), StampOrder()  # it may be another drive
        self._monitor.activate(now_s=time.monotonic())
        self._subscription = self._lifecycle.in_executor(self._create_image_subscription)

    def _end_stream(self, state: str) -> None:
        """Unsubscribe and close the engine, if there are such.

        Raises:
            _EngineStuckError: if the engine does not come back; it is then given up.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._lifecycle.in_executor(partial(self.destroy_subscription, subscription))
        inference, self._inference = self._inference, None
        self._engine_name = ""
        if inference is not None:
            stopped = inference.stop(within_s=_FRAME_END_S)
            for reason, frames in (
                (DropReason.DEACTIVATED, stopped.frames_waiting),
                (DropReason.ENGINE_STUCK, stopped.frames_stuck),
            ):
                for _ in range(frames):
                    self._monitor.count_drop(reason, now_s=time.monotonic())
            del inference
            release_memory()
            if not stopped.ended:
                raise _EngineStuckError(
                    f"the engine did not come back within {_FRAME_END_S:g} s and is given up with its memory; "
                    "configure again, or restart the process to free it"
                )
        self._idle_health = Health(HealthLevel.WARN, state)

    def _open_engine(self) -> None:
        self._opening_since_s = started_s = time.monotonic()
        self._idle_health = Health(HealthLevel.WARN, "BUILDING: opening the engine")
        self._diagnostics.report()
        inference = self._inference = InferenceThread(open_segmenter=self._open_segmenter, serve=self._serve)
        try:
            segmenter = inference.wait_until_open()
        except BaseException:
            self._inference = None
            raise
        finally:
            self._opening_since_s = None
        self._bundle_name, self._engine_name = segmenter.bundle.name, segmenter.engine.name
        self._label_info.publish(bundle=self._bundle_name, min_confidence=self._live.min_confidence)
        self.get_logger().info(
            f"bundle {self._bundle_name} on {self._engine_name}, ready after {time.monotonic() - started_s:.1f} s"
        )

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
            event_callbacks=subscription_events(self, topic, matched=self._on_publishers_changed),
            qos_overriding_options=OVERRIDABLE(),
        )

    def _on_publishers_changed(self, matched: QoSSubscriptionMatchedInfo) -> None:
        self._monitor.note_publishers(matched.current_count)
        if matched.current_count > 1:
            self.get_logger().warning(
                f"{matched.current_count} publishers on the image topic: their frames mix in one stream; remap all "
                "but one (one that was killed counts for up to 20 s)"
            )

    # --- frames, in the executor's thread

    def _on_image(self, message: Image | CompressedImage) -> None:
        now_s = time.monotonic()
        self._monitor.count_arrival(now_s=now_s, silence_ms=self._live.stale_after_ms)
        inference = self._inference
        if inference is None:
            self._monitor.count_drop(DropReason.DEACTIVATED, now_s=now_s)
            return
        if fault := self._judge_stamp(stamp_ns_of(message.header)):
            self._drop(*fault)
            return
        if inference.put(_Arrival(message, now_s)) is not None:
            self._monitor.count_drop(DropReason.REPLACED, now_s=now_s)

    def _judge_stamp(self, stamp_ns: int) -> tuple[DropReason, str] | None:
        now_ns = self.get_clock().now().nanoseconds
        if is_from_the_future(stamp_ns, now_ns, max_future_ms=self._live.max_future_ms):
            return DropReason.FUTURE_STAMP, (
                f"its stamp is {(stamp_ns - now_ns) / 1e9:.1f} s ahead of this node's clock, more than max_future_ms; "
                "synchronise the clocks, or set use_sim_time for a bag that brings its own"
            )
        verdict = self._stamps.judge(stamp_ns)
        if verdict is StampVerdict.DUPLICATE:
            return DropReason.DUPLICATE_STAMP, "it has the stamp of the frame before it"
        if verdict is StampVerdict.BACKWARD:
            return DropReason.BACKWARD_STAMP, "its stamp is before that of the frame before it"
        if verdict is StampVerdict.REBASED:
            self._monitor.count_rebase()
            self._guard.forget_drive()
            self.get_logger().info("the stamps jumped back: taken for a new drive", throttle_duration_sec=_LOG_PERIOD_S)
        return None

    # --- frames, in the engine's thread

    def _open_segmenter(self) -> Segmenter:
        segmenter = Segmenter.open(
            Path(self.get_parameter("bundle").value or default_bundle()),
            backend=self.get_parameter("backend").value,
            threads=self.get_parameter("threads").value,
            min_confidence=self._live.min_confidence,
        )
        segmenter(np.zeros((*segmenter.bundle.network_hw, 3), np.uint8))
        return segmenter

    def _serve(self, segmenter: Segmenter, arrival: _Arrival) -> Delivery:
        try:
            return self._answer(segmenter, arrival)
        except ImageMessageError as error:
            return partial(self._drop, DropReason.UNDECODABLE, str(error))
        except Exception as error:  # whatever one frame does to the engine, the next one may be served
            return partial(self._drop, DropReason.ENGINE_ERROR, f"{type(error).__name__}: {error}")

    def _answer(self, segmenter: Segmenter, arrival: _Arrival) -> Delivery:
        live = self._live
        age_ms = self._stamp_age_ms(arrival)
        if live.max_age_ms and age_ms is not None and age_ms > live.max_age_ms:
            return partial(self._drop, DropReason.TOO_OLD, "it was stamped longer ago than max_age_ms")
        bgr = _decode(arrival.message)
        segmenter.min_confidence = live.min_confidence
        answer = self._guard(
            segmenter,
            bgr,
            on_unhealthy_camera=live.on_unhealthy_camera,
            smoothing_frames=live.smoothing_frames,
        )
        self._camera = answer.camera
        self._monitor.note_camera(camera_verdict(answer.camera, on_unhealthy_camera=live.on_unhealthy_camera))
        if answer.segmentation is None:
            return partial(self._drop, DropReason.UNHEALTHY_CAMERA, answer.camera.summary)
        return partial(self._publish, arrival, answer.segmentation, segmented=answer.segmented)

    def _publish(self, arrival: _Arrival, segmentation: Segmentation, *, segmented: bool) -> None:
        header = arrival.message.header
        if error := self._send(self._class_map_publisher, segmentation.class_map, header):
            self._drop(DropReason.NOT_SENT, error)
            return
        self._monitor.count_published(
            now_s=time.monotonic(),
            arrived_s=arrival.arrived_s,
            inference_ms=segmentation.inference_ms if segmented else None,
            stamp_age_ms=self._stamp_age_ms(arrival),
        )
        if self._confidence_publisher.get_subscription_count():
            self._send(self._confidence_publisher, segmentation.confidence, header)

    def _send(self, publisher: LifecyclePublisher, pixels: np.ndarray, header: Header) -> str:
        """Publish a map; what went wrong, or nothing."""
        try:
            publisher.publish(fill_image(Image(), pixels, encoding="mono8", header=header))
        except Exception as error:  # the middleware refuses one message; the next frame may pass
            return f"{type(error).__name__}: {error}"
        return ""

    # --- frames, in either

    def _drop(self, reason: DropReason, error: str) -> None:
        self._monitor.count_drop(reason, now_s=time.monotonic(), error=error)
        if not self.context.ok():
            return
        line = f"no class map for a frame ({reason.value}): {error}"
        if reason is DropReason.ENGINE_ERROR:
            self.get_logger().error(line, throttle_duration_sec=_LOG_PERIOD_S)
            self._diagnostics.report_when_due()  # the next frame may clear it before the watch looks
        else:
            self.get_logger().warning(line, throttle_duration_sec=_LOG_PERIOD_S)

    def _stamp_age_ms(self, arrival: _Arrival) -> float | None:
        return stamp_age_ms(
            stamp_ns_of(arrival.message.header),
            self.get_clock().now().nanoseconds,
            simulated_clock=self.get_clock().ros_time_is_active,
        )

    # --- parameters

    def _on_parameters_set(self, _: list[Parameter]) -> None:
        before, self._live = self._live, LiveSettings.of(self)
        if self._bundle_name and self._live.min_confidence != before.min_confidence:
            self._label_info.publish(bundle=self._bundle_name, min_confidence=self._live.min_confidence)

    # --- diagnostics

    def _health(self) -> Health:
        inference = self._inference
        if self._subscription is None or inference is None:
            return self._idle_health
        return self._monitor.assess(
            now_s=time.monotonic(),
            stale_after_ms=self._live.stale_after_ms,
            max_age_ms=self._live.max_age_ms,
            engine_timeout_ms=self._live.engine_timeout_ms,
            engine_busy_ms=inference.busy_ms(),
        )

    def _values(self) -> dict[str, str]:
        inference, opening_since_s = self._inference, self._opening_since_s
        return {
            "state": self._state_machine.current_state[1],
            "backend": self.get_parameter("backend").value,
            "engine": self._engine_name,
            "bundle": self._bundle_name or self.get_parameter("bundle").value,
            "building_s": "" if opening_since_s is None else f"{time.monotonic() - opening_since_s:.1f}",
            "engine_busy_ms": f"{0.0 if inference is None else inference.busy_ms():.0f}",
            **camera_values(self._camera),
            **stream_values(self._monitor.figures(now_s=time.monotonic())),
        }


class _EngineStuckError(EngineError):
    """The engine's thread had to be given up."""


def _decode(message: Image | CompressedImage) -> np.ndarray:
    if isinstance(message, CompressedImage):
        return bgr_from_compressed_image(message)
    return bgr_from_image(message)


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros segmentation_node``."""
    return run_node(SegmentationNode)


if __name__ == "__main__":
    sys.exit(main())
