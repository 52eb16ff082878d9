"""The images of one topic, where the one before matters: video frames, and the range of 16-bit values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.messages import bgr_from_message
from darkseg_ros.frames.value_range import ValueRange
from darkseg_ros.frames.video_packets import VideoDecoder, is_video_packet


class ImageStream:
    """Decodes the messages of one topic; give it all of them, in order.

    Args:
        views: whether a picture may share its message's memory; such a one is not to be written.
    """

    def __init__(self, *, views: bool = False) -> None:
        self._views = views
        self._value_range = ValueRange()
        self._video = VideoDecoder()

    @property
    def lost_packets(self) -> int:
        """Video packets that never came."""
        return self._video.lost

    def bgr(self, message: Any) -> np.ndarray:
        """Decode the next message.

        Args:
            message: a sensor_msgs/Image (or its SerialisedImage) or CompressedImage, a foxglove_msgs/CompressedVideo or
                an ffmpeg_image_transport_msgs/FFMPEGPacket.

        Returns:
            (H, W, 3) uint8 BGR, C-contiguous and writable unless it is a view.

        Raises:
            ImageMessageError: as `bgr_from_message` and `VideoDecoder.bgr`; the next message may decode again.
        """
        if is_video_packet(message):
            return self._video.bgr(message)
        return bgr_from_message(message, value_range=self._value_range, view=self._views)

    def later(self, message: Any) -> Callable[[], np.ndarray]:
        """Decode the next message when its picture is wanted, or never; a video packet at once, as others need it.

        Args:
            message: as for `bgr`.

        Returns:
            A function that gives what `bgr` gives, or raises what it raises.
        """
        if not is_video_packet(message):
            return partial(self.bgr, message)
        try:
            picture = self.bgr(message)
        except ImageMessageError as error:
            return partial(_raise, error)
        return lambda: picture


def _raise(error: ImageMessageError) -> NoReturn:
    raise error
