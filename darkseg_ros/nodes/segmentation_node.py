"""The node on the vehicle: camera images in, class maps out.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 1 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 1 |
| pub | ``~/class_map`` | …/Image, mono8 train ids, 255 = unlabelled, header as received | reliable, depth 1 |
| pub | ``~/confidence`` | …/Image, mono8, 255 = certain; only while subscribed | reliable, depth 1 |
| pub | ``~/color_mask`` | …/Image, rgb8, the classes' colours; only while subscribed | reliable, depth 1 |
| pub | ``~/label_info`` | vision_msgs/LabelInfo, or std_msgs/String with JSON | transient local |
| pub | ``/diagnostics`` | diagnostic_msgs/DiagnosticArray, each second and on change | reliable |

With the parameter `cameras`, one node and one engine serve several: each camera ``front`` has ``front/image`` in and
``~/front/class_map`` and the other topics out, and a status of its own on ``/diagnostics``.

Parameters stand in `darkseg_ros.nodes.segmentation_parameters`. Run it with ``ros2 run darkseg_ros segmentation_node``
or ``python -m darkseg_ros.nodes.segmentation_node``.

Three threads: the executor's answers services and watches; `InferenceThread` owns the engine, waits for images itself
(`darkseg_ros.nodes.image_wait_set`) and publishes class maps; `LifecycleThread` runs the transitions, which may wait
for the engine. What belongs to one camera stands in `darkseg_ros.nodes.camera_stream`.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import cv2
import numpy as np
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import DarksegError, DeviceLostError, EngineError, one_line
from darkseg_ros.installed_files import bundle_folder
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.nodes.camera_stream import Arrival, CameraStream, ToSegment
from darkseg_ros.nodes.command_line import node_main
from darkseg_ros.nodes.diagnostics import DiagnosticsReporter, Subject
from darkseg_ros.nodes.image_wait_set import ImageWaitSet
from darkseg_ros.nodes.lifecycle_thread import LifecycleThread
from darkseg_ros.nodes.middleware import release_memory
from darkseg_ros.nodes.package_log import PackageLog
from darkseg_ros.nodes.parameters import check_choices, declare_parameters, parameter_values
from darkseg_ros.nodes.segmentation_parameters import SegmentationParameters, check_camera_names
from darkseg_ros.stream.batching import BatchRule, segment_each
from darkseg_ros.stream.frame_gate import DropReason
from darkseg_ros.stream.inference_thread import Delivery, InferenceThread
from darkseg_ros.stream.monitor import Health, HealthLevel

_FRAME_END_S = 2.0
"""A transition waits so long for the batch in the engine, then gives the engine up."""

_PROCESS_END_S = 0.3
"""The same when the process ends; the whole end may take a second."""


class SegmentationNode(LifecycleNode):
    """Segments the newest frame of each camera, one batch at a time, in a thread of its own.

    Attributes:
        device_lost: why this process cannot use its GPU any more; None while it can.

    Raises:
        DarksegError: if the names of the cameras are not fit for topics.
    """

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self._package_log = PackageLog(self)
        declare_parameters(self, SegmentationParameters)
        self._in_force = parameter_values(self, SegmentationParameters)
        check_camera_names(self._in_force.cameras)

        self._inference: InferenceThread[Arrival] | None = None
        self._wait_set: ImageWaitSet | None = None
        self._opening_since_s: float | None = None
        self._opened_after_s = 0.0
        self._bundle_name = ""
        self._classes = CITYSCAPES
        self._engine_name = ""
        self.device_lost: DeviceLostError | None = None
        self._streams = tuple(
            CameraStream(self, name, live=lambda: self._in_force, offer=self._offer, report=self._report_when_due)
            for name in self._in_force.cameras
        )
        self._clock_jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=self._on_clock_jumped_back,
        )

        self._idle_health = Health(HealthLevel.WARN, "not configured")
        self._diagnostics = DiagnosticsReporter(
            self,
            [
                Subject(
                    task=f"segmentation of {stream.name}" if stream.name else "segmentation",
                    topic=stream.topic,
                    assess=partial(self._health, stream),
                    values=partial(self._values, stream),
                )
                for stream in self._streams
            ],
        )
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._lifecycle = LifecycleThread(self, on_transition=self._diagnostics.report)
        self._diagnostics.watch()
        if self._in_force.autostart:
            self._lifecycle.submit(self._autostart)

    def destroy_node(self) -> None:
        """End inference and release the engine, then the node; an engine that hangs is left behind."""
        inference = self._inference  # the transitions' thread may take it away
        if inference is not None:
            inference.stop(within_s=_PROCESS_END_S)
        self._lifecycle.stop(within_s=_PROCESS_END_S)
        self._package_log.close()
        super().destroy_node()

    # --- lifecycle, in the thread of `LifecycleThread`

    def _autostart(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, open bundle and engine, and run first frames: they are slower than all others."""
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
        """Unsubscribe, finish the batch in the engine and release its memory."""
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
        for stream in self._streams:
            stream.silence(state)
        self._idle_health = reason
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        """FAILURE (back to the state before) for an expected error, ERROR for any other: rclpy would swallow both."""
        try:
            action()
            self._lifecycle.leave_if_the_process_ends()
            return TransitionCallbackReturn.SUCCESS
        except _EngineStuckError as error:
            reason, outcome = one_line(error), TransitionCallbackReturn.ERROR
        except DarksegError as error:
            reason, outcome = one_line(error), TransitionCallbackReturn.FAILURE
            if isinstance(error, DeviceLostError):
                self.device_lost = error
        except Exception as error:
            reason, outcome = f"{type(error).__name__}: {one_line(error)}", TransitionCallbackReturn.ERROR
            self._lifecycle.leave_if_the_process_ends()
            self.get_logger().error(traceback.format_exc())
        self._lifecycle.leave_if_the_process_ends()
        self.get_logger().error(f"cannot {what}: {reason}")
        self._idle_health = Health(HealthLevel.ERROR, f"cannot {what}: {reason}")
        return outcome

    def _configure(self) -> None:
        check_choices(self._in_force)
        for stream in self._streams:
            stream.reset_figures()
        self._open_engine()
        self._idle_health = Health(HealthLevel.WARN, "inactive")

    def _activate(self) -> None:
        if self._inference is None:
            self._open_engine()
        assert self._wait_set is not None  # it comes with the engine
        for stream in self._streams:
            self._lifecycle.in_executor(partial(stream.subscribe, self._wait_set))
        topics = ", ".join(stream.listens_to for stream in self._streams)
        self.get_logger().info(
            f"ready after {self._opened_after_s:.1f} s: segments {topics} with bundle {self._bundle_name} on "
            f"{self._engine_name}"
        )

    def _end_stream(self, state: str) -> None:
        """Unsubscribe and close the engine, if there are such.

        Raises:
            _EngineStuckError: if the engine does not come back; it is then given up.
        """
        for stream in self._streams:
            if stream.subscribed:
                self._lifecycle.in_executor(partial(stream.unsubscribe, self._wait_set))
        inference, self._inference = self._inference, None
        self._wait_set = None
        self._engine_name = ""
        if inference is not None:
            stopped = inference.stop(within_s=_FRAME_END_S)
            for arrival in stopped.waiting:
                arrival.stream.drop(DropReason.DEACTIVATED)
            for arrival in stopped.stuck:
                arrival.stream.drop(DropReason.ENGINE_STUCK)
            ended = stopped.ended
            del inference, stopped
            release_memory()
            if not ended:
                raise _EngineStuckError(
                    f"the engine did not come back within {_FRAME_END_S:g} s and is given up with its memory; "
                    "configure again, or restart the process to free it"
                )
        self._idle_health = Health(HealthLevel.WARN, state)

    def _open_engine(self) -> None:
        self._opening_since_s = started_s = time.monotonic()
        self._idle_health = Health(HealthLevel.WARN, "BUILDING: opening the engine")
        self._diagnostics.report()
        self._wait_set = ImageWaitSet(self)
        inference = self._inference = InferenceThread(
            open_segmenter=self._open_segmenter,
            serve=self._serve,
            batch_rule=self._batch_rule,
            waiter=self._wait_set,
        )
        try:
            segmenter = inference.wait_until_open()
        except BaseException:
            self._inference = None
            raise
        finally:
            self._opening_since_s = None
        self._bundle_name, self._engine_name = segmenter.bundle.name, segmenter.engine.name
        self._classes = segmenter.bundle.classes
        self._announce()
        self._opened_after_s = time.monotonic() - started_s

    # --- frames, where they are taken

    def _offer(self, arrival: Arrival) -> Arrival | None:
        inference = self._inference
        if inference is None:
            return arrival
        return inference.put(arrival.stream.name, arrival, now_s=arrival.image.arrived_s)

    def _on_clock_jumped_back(self, jump: TimeJump) -> None:
        to_ns = self.get_clock().now().nanoseconds
        for stream in self._streams:
            stream.clock_jumped_back(from_ns=to_ns - jump.delta.nanoseconds, to_ns=to_ns)

    # --- frames, in the engine's thread

    def _open_segmenter(self) -> Segmenter:
        segmenter = Segmenter.open(
            bundle_folder(self._in_force.bundle),
            backend=self._in_force.backend,
            device=self._in_force.device,
            threads=self._in_force.threads,
            min_confidence=self._in_force.min_confidence,
        )
        black_bgr = np.zeros((*segmenter.bundle.network_hw, 3), np.uint8)
        try:
            for frames in range(1, 1 + min(len(self._streams), segmenter.engine.batch_max)):
                segmenter.segment_batch([black_bgr] * frames)  # each size is slow the first time
        except BaseException:
            segmenter.close()
            raise
        return segmenter

    def _batch_rule(self) -> BatchRule:
        return BatchRule(
            window_s=self._in_force.batch_window_ms / 1000, silent_after_s=self._in_force.stale_after_ms / 1000
        )

    def _serve(self, segmenter: Segmenter, batch: Sequence[Arrival]) -> Delivery:
        segmenter.min_confidence = self._in_force.min_confidence
        deliveries: list[Delivery] = []
        to_segment: list[ToSegment] = []
        for arrival in batch:
            prepared = arrival.stream.prepare(arrival)
            if isinstance(prepared, ToSegment):
                to_segment.append(prepared)
            else:
                deliveries.append(prepared)
        answers = segment_each(segmenter, [frame.bgr for frame in to_segment])
        for frame, answer in zip(to_segment, answers, strict=True):
            if isinstance(answer, DeviceLostError):
                self.device_lost = answer
            deliveries.append(frame.arrival.stream.answer(frame, answer))
        return partial(_deliver, deliveries)

    # --- parameters

    def _on_parameters_set(self, _: list[Parameter]) -> None:
        before, self._in_force = self._in_force, parameter_values(self, SegmentationParameters)
        if self._bundle_name and self._in_force.min_confidence != before.min_confidence:
            self._announce()

    def _announce(self) -> None:
        for stream in self._streams:
            stream.announce(self._classes, bundle=self._bundle_name)

    # --- diagnostics

    def _report_when_due(self) -> None:
        self._diagnostics.report_when_due()

    def _health(self, stream: CameraStream) -> Health:
        inference = self._inference
        if not stream.subscribed or inference is None:
            return self._idle_health
        return stream.health(engine_busy_ms=inference.busy_ms())

    def _values(self, stream: CameraStream) -> dict[str, str]:
        inference, opening_since_s = self._inference, self._opening_since_s
        return {
            "state": self._lifecycle.state,
            "backend": self._in_force.backend,
            "engine": self._engine_name,
            "bundle": self._bundle_name or self._in_force.bundle,
            "building_s": "" if opening_since_s is None else f"{time.monotonic() - opening_since_s:.1f}",
            "engine_busy_ms": f"{0.0 if inference is None else inference.busy_ms():.0f}",
            **stream.values(),
        }


class _EngineStuckError(EngineError):
    """The engine's thread had to be given up."""


def _deliver(deliveries: Iterable[Delivery]) -> None:
    for deliver in deliveries:
        deliver()


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros segmentation_node``."""
    cv2.setNumThreads(1)  # resizing a frame takes 0.3 ms; to wait for a second thread's turn took up to 6 (p99)
    return node_main(
        "segmentation_node",
        SegmentationNode,
        SegmentationParameters,
        about=__doc__,
        process_failure=lambda node: node.device_lost,
    )


if __name__ == "__main__":
    sys.exit(main())
