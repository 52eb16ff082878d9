"""Fields of messages that nobody has checked: the middleware does not, and bags hold what was sent."""

from __future__ import annotations

import operator
from typing import Any

from darkseg_ros.errors import ImageMessageError

MAX_IMAGE_BYTES = 2**28
"""Largest decoded image, as BGR: 268 MB, 8192 × 10922 pixels. A larger declared size is taken for a fault."""


def field(message: Any, name: str) -> Any:
    """A field's value.

    Raises:
        ImageMessageError: if the message has none of that name.
    """
    try:
        return getattr(message, name)
    except AttributeError:
        raise ImageMessageError(f"expected a message with a field {name}, got {type(message).__name__}") from None


def text_field(message: Any, name: str) -> str:
    """A field that is a string.

    Raises:
        ImageMessageError: if it is missing or none.
    """
    value = field(message, name)
    if not isinstance(value, str):
        raise ImageMessageError(f"{name} must be a string, got {type(value).__name__}")
    return value


def integer_field(message: Any, name: str) -> int:
    """A field that is an integer, numpy's among them.

    Raises:
        ImageMessageError: if it is missing or none.
    """
    value = field(message, name)
    try:
        return operator.index(value)
    except TypeError:
        raise ImageMessageError(f"{name} must be an integer, got {type(value).__name__}") from None


def byte_field(message: Any, name: str) -> memoryview:
    """A view of a field that holds contiguous bytes: ``bytes``, ``array.array('B')``, a uint8 array, a memoryview.

    Raises:
        ImageMessageError: if it is missing or none of these.
    """
    value = field(message, name)
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        view = None
    if view is None or view.format != "B" or not view.c_contiguous:
        raise ImageMessageError(
            f"{name} must be contiguous bytes (bytes, array('B'), uint8 array), got {type(value).__name__}"
        )
    return view.cast("B") if view.nbytes else memoryview(b"")


def check_size(height: int, width: int, *, max_pixels: int = MAX_IMAGE_BYTES // 3) -> None:
    """Make sure that an image has pixels, and not too many.

    Raises:
        ImageMessageError: otherwise.
    """
    if height < 1 or width < 1:
        raise ImageMessageError(f"the image is empty: {width}×{height}; check that the camera delivers frames")
    if height * width > max_pixels:
        raise ImageMessageError(
            f"the image declares {width}×{height} pixels, expected at most {max_pixels} altogether; check the publisher"
        )


def quoted(text: str) -> str:
    """The beginning of a string of a message, for an error."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
