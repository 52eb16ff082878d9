"""16-bit values made 8-bit ones: grey by the range that a camera uses, colours by their upper byte."""

from __future__ import annotations

import numpy as np

_RANGES_BITS = (10, 12, 14, 16)
"""What image sensors have. Cameras store 10, 12 or 14 bits in the lower bits of 16, or all of them scaled to 16."""


class ValueRange:
    """How many of the 16 bits the images of one stream use; it only grows, so that brightness does not flicker.

    An image uses the smallest of 10, 12, 14 and 16 bits that holds its largest value, and a stream the largest of its
    images so far. The image that first uses more bits, such as the first one with a lamp in it, is therefore darker
    than those before it; by night a lamp is mostly in the first one. A single image is a stream of its own.
    """

    def __init__(self) -> None:
        self._bits = _RANGES_BITS[0]

    def to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
        """The upper 8 of the bits in use.

        Args:
            pixels: uint16 of any byte order, (H, W) of a sensor's values, or (H, W, C) of colours, which a program has
                scaled to 16 bits already; or uint8, which stays as it is.

        Returns:
            Of the same shape, uint8.
        """
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.ndim > 2:
            return (pixels >> 8).astype(np.uint8)
        largest = int(pixels.max())
        self._bits = max(self._bits, next(bits for bits in _RANGES_BITS if largest < 1 << bits))
        return (pixels >> (self._bits - 8)).astype(np.uint8)
