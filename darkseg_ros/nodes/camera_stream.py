"""One camera of segmentation_node: its topics, the order of its stamps, its condition and its figures.

The engine's thread takes its images and gives its class maps; video packets are decoded in the executor's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from rclpy.event_handler import QoSSubscriptionMatchedInfo
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.subscription import Subscription

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import ImageMessageError, one_line
from darkseg_ros.model.segmenter import Segmentation
from darkseg_ros.nodes.image_subscription import ReceivedImage, subscribe_to_images
from darkseg_ros.nodes.image_wait_set import ImageWaitSet
from darkseg_ros.nodes.label_info import LabelInfoPublisher
from darkseg_ros.nodes.map_publisher import MapPublisher
from darkseg_ros.nodes.segmentation_parameters import SegmentationParameters
from darkseg_ros.pictures.overlay import color_class_map
from darkseg_ros.stream.camera_guard import FLAG, CameraGuard, camera_verdict
from darkseg_ros.stream.camera_health import CameraCondition, camera_values
from darkseg_ros.stream.frame_gate import DropReason, StampOrder, StampVerdict, is_from_the_future, stamp_age_ms
from darkseg_ros.stream.inference_thread import Delivery
from darkseg_ros.stream.monitor import Health, StreamMonitor

_LOG_PERIOD_S = 5.0


@dataclass(frozen=True)
class Arrival:
    """An image of a camera.

    Attributes:
        stream: of the camera.
        image: as received.
        drive: how many times the camera's stamps had jumped back; frames of two drives are no neighbours.
    """

    stream: CameraStream
    image: ReceivedImage
    drive: int


@dataclass(frozen=True)
class ToSegment:
    """A frame for the engine.

    Attributes:
        arrival: the image.
        bgr: its picture, (H, W, 3) uint8; may be a view of the message.
        camera_is_judged: whether the frame has been looked at for the camera's condition.
    """

    arrival: Arrival
    bgr: np.ndarray
    camera_is_judged: bool


class CameraStream:
    """What segmentation_node keeps of one camera.

    Args:
        node: has the parameters of `darkseg_ros.nodes.segmentation_parameters`.
        name: begins the names of the topics; empty for the only camera of a node.
        live: the parameters in force.
        offer: hands a frame to the engine's thread; returns the one that will not be served: an older one of this
            camera, or the frame itself where no engine is.
        report: tells the diagnostics to look at once.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        *,
        live: Callable[[], SegmentationParameters],
        offer: Callable[[Arrival], Arrival | None],
        report: Callable[[], None],
    ) -> None:
        self.name = name
        self.topic = f"{name}/image" if name else "image"
        self._node = node
        self._live = live
        self._offer = offer
        self._report = report
        # a logger of its own: each camera has its own throttle, and its name before the line
        self._logger = node.get_logger().get_child(name) if name else node.get_logger()
        answers = f"~/{name}" if name else "~"
        self._class_maps, self._confidences, self._color_masks = (
            MapPublisher(node, f"{answers}/{name}") for name in ("class_map", "confidence", "color_mask")
        )
        self._label_info = LabelInfoPublisher(node, f"{answers}/label_info")
        self._classes = CITYSCAPES
        self._subscription: Subscription | None = None
        self._monitor = StreamMonitor(now_s=time.monotonic())
        self._camera: CameraCondition | None = None
        self._guard = CameraGuard()
        self._stamps = StampOrder()
        self._stamps_lock = threading.Lock()  # the clock jumps in the executor's thread
        self._drive = 0
        self._looked_s: Callable[[], float] = time.monotonic

    # --- lifecycle

    @property
    def subscribed(self) -> bool:
        """Whether images are taken."""
        return self._subscription is not None

    @property
    def listens_to(self) -> str:
        """The topic that images are taken from, remapped and of the transport; empty while none are taken."""
        return "" if self._subscription is None else str(self._subscription.topic_name)

    def reset_figures(self) -> None:
        """Count from zero."""
        self._monitor = StreamMonitor(now_s=time.monotonic())

    def announce(self, classes: ClassTable, *, bundle: str) -> None:
        """Say what the values of the class maps mean."""
        self._classes = classes
        self._label_info.publish(classes, bundle=bundle, min_confidence=self._live().min_confidence)

    def subscribe(self, wait_set: ImageWaitSet) -> None:
        """Take images from now on, with no memory of those before: it may be another drive.

        Args:
            wait_set: what the engine's thread waits by.
        """
        self._camera, self._guard, self._stamps, self._drive = None, CameraGuard(), StampOrder(), 0
        self._monitor.activate(now_s=time.monotonic())
        self._subscription = subscribe_to_images(
            self._node, self._on_image, topic=self.topic, matched=self._on_publishers_changed, wait_set=wait_set
        )
        self._looked_s = partial(wait_set.looked_at, self._subscription)

    def unsubscribe(self, wait_set: ImageWaitSet | None) -> None:
        """Take no images any more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            if wait_set is not None:
                wait_set.remove(subscription)
            self._node.destroy_subscription(subscription)

    def silence(self, state: LifecycleState) -> None:
        """Publish nothing until the node's next activation."""
        for publisher in (self._class_maps, self._confidences, self._color_masks):
            publisher.silence(state)

    def clock_jumped_back(self, *, from_ns: int, to_ns: int) -> None:
        """A bag starts again: its clock and its frames come by different topics, in any order."""
        with self._stamps_lock:
            self._stamps.clock_jumped_back(from_ns=from_ns, to_ns=to_ns)

    # --- in the executor's thread

    def _on_publishers_changed(self, matched: QoSSubscriptionMatchedInfo) -> None:
        self._monitor.note_publishers(matched.current_count)
        if matched.current_count > 1:
            self._logger.warning(
                f"{matched.current_count} publishers on the image topic: their frames mix in one stream; remap all "
                "but one (one that was killed counts for up to 20 s)"
            )

    # --- where images are taken: in the engine's thread, those of videos in the executor's

    def _on_image(self, image: ReceivedImage) -> None:
        arrived_s = image.arrived_s
        self._monitor.count_arrival(now_s=arrived_s, silence_ms=self._live().stale_after_ms, replaced=image.replaced)
        self._monitor.count_lost_packets(image.lost_packets)
        if fault := self._judge_stamp(image.stamp_ns):
            self.drop(*fault)
            return
        arrival = Arrival(self, image, self._drive)
        unserved = self._offer(arrival)
        if unserved is not None:
            reason = DropReason.DEACTIVATED if unserved is arrival else DropReason.REPLACED
            self._monitor.count_drop(reason, now_s=arrived_s)

    def _judge_stamp(self, stamp_ns: int) -> tuple[DropReason, str] | None:
        now_ns, _ = self._now_ns()
        if is_from_the_future(stamp_ns, now_ns, max_future_ms=self._live().max_future_ms):
            return DropReason.FUTURE_STAMP, (
                f"its stamp is {(stamp_ns - now_ns) / 1e9:.1f} s ahead of this node's clock, more than max_future_ms; "
                "synchronise the clocks, or set use_sim_time for a bag that brings its own"
            )
        with self._stamps_lock:
            verdict = self._stamps.judge(stamp_ns)
        if verdict is StampVerdict.DUPLICATE:
            return DropReason.DUPLICATE_STAMP, "it has the stamp of the frame before it"
        if verdict is StampVerdict.BACKWARD:
            return DropReason.BACKWARD_STAMP, "its stamp is before that of the frame before it"
        if verdict is StampVerdict.REBASED:
            self._monitor.count_rebase()
            self._drive += 1
            self._logger.info("the stamps jumped back: taken for a new drive", throttle_duration_sec=_LOG_PERIOD_S)
        return None

    # --- in the engine's thread

    def prepare(self, arrival: Arrival) -> ToSegment | Delivery:
        """The frame to segment; or, where there is nothing to segment, the outcome."""
        try:
            return self._look(arrival)
        except ImageMessageError as error:
            return partial(self.drop, DropReason.UNDECODABLE, str(error))
        except Exception as error:  # whatever one frame does, the next one may be served
            return self._failed(error)

    def _look(self, arrival: Arrival) -> ToSegment | Delivery:
        live = self._live()
        if live.max_age_ms and (self._stamp_age_ms(arrival) or 0) > live.max_age_ms:
            return partial(self.drop, DropReason.TOO_OLD, "it was stamped longer ago than max_age_ms")
        bgr = arrival.image.bgr()
        self._guard.begin(drive=arrival.drive)
        policy = live.on_unhealthy_camera
        if policy == FLAG:  # it is segmented whatever the camera is: its class map need not wait for the judgement
            return ToSegment(arrival, bgr, camera_is_judged=False)
        camera = self._judge_camera(bgr, policy, stamp_ns=arrival.image.stamp_ns)
        if camera.healthy:
            return ToSegment(arrival, bgr, camera_is_judged=True)
        instead = self._guard.instead(bgr.shape[:2], on_unhealthy_camera=policy)
        if instead is None:
            return partial(self.drop, DropReason.UNHEALTHY_CAMERA, camera.summary)
        return partial(self._publish, arrival, instead, segmented=False)

    def _judge_camera(self, bgr: np.ndarray, policy: str, *, stamp_ns: int) -> CameraCondition:
        self._camera = camera = self._guard.look(bgr, stamp_ns=stamp_ns)
        self._monitor.note_camera(camera_verdict(camera, on_unhealthy_camera=policy))
        return camera

    def answer(self, frame: ToSegment, segmentation: Segmentation | Exception) -> Delivery:
        """The outcome of a frame that was segmented, or that the engine failed on."""
        return partial(self._answer, frame, segmentation)

    def _answer(self, frame: ToSegment, segmentation: Segmentation | Exception) -> None:
        # all in the delivery: no camera waits for another's smoothing, and an engine that was given up and comes back
        # does not reach the guard, which may be the next activation's by then
        try:
            if isinstance(segmentation, Exception):
                raise segmentation
            steadied = self._guard.steady(segmentation, smoothing_frames=self._live().smoothing_frames)
        except Exception as error:  # as above
            self._failed(error)()
        else:
            self._publish(frame.arrival, steadied, segmented=True)
        if not frame.camera_is_judged:
            self._judge_camera(frame.bgr, FLAG, stamp_ns=frame.arrival.image.stamp_ns)

    def _failed(self, error: Exception) -> Delivery:
        return partial(self.drop, DropReason.ENGINE_ERROR, f"{type(error).__name__}: {one_line(error)}")

    def _publish(self, arrival: Arrival, segmentation: Segmentation, *, segmented: bool) -> None:
        image, camera_hw = arrival.image, segmentation.camera_hw
        if error := self._class_maps.publish(segmentation.write_class_map, camera_hw, image):
            self.drop(DropReason.NOT_SENT, error)
            return
        self._monitor.count_published(
            now_s=time.monotonic(),
            arrived_s=image.arrived_s,
            inference_ms=segmentation.inference_ms if segmented else None,
            stamp_age_ms=self._stamp_age_ms(arrival),
        )
        if self._confidences.is_wanted:
            self._confidences.publish(segmentation.write_confidence, camera_hw, image)
        if self._color_masks.is_wanted:

            def write_rgb(into: np.ndarray) -> None:
                into[:] = color_class_map(segmentation.class_map, self._classes)[..., ::-1]

            self._color_masks.publish(write_rgb, (*camera_hw, 3), image)

    def _stamp_age_ms(self, arrival: Arrival) -> float | None:
        now_ns, simulated = self._now_ns()
        return stamp_age_ms(arrival.image.stamp_ns, now_ns, simulated_clock=simulated)

    def _now_ns(self) -> tuple[int, bool]:
        """The node's clock, and whether it is simulated; else it is the system's, which Python reads in less time."""
        clock = self._node.get_clock()
        simulated = clock.ros_time_is_active
        return (clock.now().nanoseconds if simulated else time.time_ns()), simulated

    # --- in any

    def drop(self, reason: DropReason, error: str = "") -> None:
        """Count a frame that gets no class map, and say why if there is something to say."""
        self._monitor.count_drop(reason, now_s=time.monotonic(), error=error)
        if not error or not self._node.context.ok():
            return
        line = f"no class map for a frame ({reason.value}): {error}"
        if reason is DropReason.ENGINE_ERROR:
            self._logger.error(line, throttle_duration_sec=_LOG_PERIOD_S)
            self._report()  # the next frame may clear it before the watch looks
        else:
            self._logger.warning(line, throttle_duration_sec=_LOG_PERIOD_S)

    def health(self, *, engine_busy_ms: float) -> Health:
        """The verdict on the running stream."""
        live = self._live()
        return self._monitor.assess(
            now_s=time.monotonic(),
            stale_after_ms=live.stale_after_ms,
            max_age_ms=live.max_age_ms,
            engine_timeout_ms=live.engine_timeout_ms,
            engine_busy_ms=engine_busy_ms,
            looked_s=self._looked_s(),
        )

    def values(self) -> dict[str, str]:
        """Key and value of the figures."""
        return {**camera_values(self._camera), **self._monitor.figures(now_s=time.monotonic()).values()}
