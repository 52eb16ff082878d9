"""zstd, lz4 and bz2 within limits: a few kilobytes can claim to hold gigabytes."""

from __future__ import annotations

import bz2
import shutil
import sys
from pathlib import Path

from lz4.frame import LZ4FrameDecompressor

from darkseg_ros.errors import BagError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_FILE_RATIO_MAX = 200
"""Recorded drives compress 1.1 to 20 times, pictures of one colour 100 times, bombs 30,000 times."""

_FILE_ALLOWANCE_BYTES = 2**24
_READ_BYTES = 2**20


def decompress_block(data: bytes, compression: str, *, limit: int) -> bytes:
    """The content of a chunk or message.

    Args:
        data: one whole frame.
        compression: ``zstd``, ``lz4``, ``bz2`` or an empty string.
        limit: bytes of content.

    Raises:
        BagError: if the content is larger, is cut off, or the compression is not known.
    """
    if compression not in ("", "zstd", "lz4", "bz2"):
        raise BagError(f"its compression {compression!r} is not known here; expected zstd, lz4 or none")
    if not compression:
        return data
    decompressor = {"zstd": ZstdDecompressor, "lz4": LZ4FrameDecompressor, "bz2": bz2.BZ2Decompressor}[compression]()
    content = bytes(decompressor.decompress(data, max_length=limit + 1))
    if len(content) > limit:
        raise BagError(f"a block of {len(data)} bytes ({compression}) would become more than {limit} bytes")
    if not decompressor.eof:
        raise BagError(f"a block of {len(data)} bytes ({compression}) is cut off")
    return content


def zstd_start(start: bytes, size: int) -> bytes:
    """The first `size` bytes of the content of a zstd file of which `start` is the beginning."""
    return bytes(ZstdDecompressor().decompress(start, max_length=size))


def decompress_file(path: Path, target: Path) -> None:
    """Unpack a zstd file.

    Raises:
        BagError: if it is cut off, unpacks to far more than recordings do, or the disk has no room.
    """
    size = path.stat().st_size
    limit = _FILE_RATIO_MAX * size + _FILE_ALLOWANCE_BYTES
    decompressor = ZstdDecompressor()
    written = 0
    with path.open("rb") as source, target.open("wb") as unpacked:
        while True:
            data = source.read(_READ_BYTES) if decompressor.needs_input else b""
            if decompressor.eof:
                if not (rest := decompressor.unused_data + data):
                    return
                decompressor, data = ZstdDecompressor(), rest  # several frames after each other
            elif decompressor.needs_input and not data:
                raise BagError(f"{path.name} is cut off")
            content = decompressor.decompress(data, max_length=_READ_BYTES)
            written += len(content)
            if written > limit:
                raise BagError(f"{path.name} has {size} bytes and would unpack to more than {limit}")
            if shutil.disk_usage(target.parent).free < 2 * _READ_BYTES:
                raise BagError(
                    f"no room is left in {target.parent} to unpack {path.name}; set TMPDIR to another folder"
                )
            unpacked.write(content)
