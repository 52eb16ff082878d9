from __future__ import annotations

import struct
import subprocess
import time
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.child_processes import start_python
from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.compressed_images import MAX_DECODING_BYTES, bgr_from_jpeg_or_png
from darkseg_ros.frames.value_range import ValueRange

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *, bit_depth: int = 8, extra: bytes = b"", colour_type: int = 0) -> bytes:
    """A black picture, with `extra` chunks before its data."""
    row = bytes(1 + -(-width * bit_depth * {0: 1, 2: 3}[colour_type] // 8))
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    data = zlib.compress(row * height)
    return _PNG_MAGIC + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(height: int, width: int, *, progressive: bool = False, sampling: int = 0x221111) -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


def declaring(content: bytes, *, height: int, width: int) -> bytes:
    """The same JPEG, said to be of another size."""
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]


def seconds_to_refuse_or_read(content: bytes) -> float:
    started_s = time.process_time()
    with suppress(ImageMessageError):
        bgr_from_jpeg_or_png(content)
    return time.process_time() - started_s


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"vpAg"])
def test_text_and_profiles_of_a_png_are_not_even_unpacked(name: bytes) -> None:
    packed = zlib.compress(bytes(2**22))
    fields = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}.get(name, b"k\0")
    content = png(64, 64, extra=chunk(name, fields + packed) * 50)
    assert bgr_from_jpeg_or_png(content).shape == (64, 64, 3)
    # to unpack 50 × 4 MB takes the decoder 0.2 s and more
    assert min(seconds_to_refuse_or_read(content) for _ in range(3)) < 0.05


def test_chunks_that_are_left_out_change_no_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    content = cv2.imencode(".png", picture)[1].tobytes()
    data = content.index(b"IDAT") - 4
    with_more = (
        content[:data] + chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"tEXt", b"k\0v") + content[data:] + b"tail"
    )
    np.testing.assert_array_equal(bgr_from_jpeg_or_png(with_more), picture)


def test_the_orientation_of_a_png_is_kept_for_who_asks() -> None:
    exif = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    content = png(8, 4, extra=chunk(b"eXIf", exif))
    assert bgr_from_jpeg_or_png(content).shape == (4, 8, 3)
    assert bgr_from_jpeg_or_png(content, upright=True).shape == (8, 4, 3)


def test_a_png_of_ever_more_chunks_is_refused() -> None:
    content = png(8, 8, extra=chunk(b"tEXt", b"") * 70_000)
    with pytest.raises(ImageMessageError, match="more than 65536 chunks"):
        bgr_from_jpeg_or_png(content)


@pytest.mark.parametrize("extra", [chunk(b"IHDR", b""), struct.pack(">I", 2**31) + b"tEXt"])
def test_a_png_of_two_headers_or_of_a_chunk_beyond_its_end_is_refused(extra: bytes) -> None:
    with pytest.raises(ImageMessageError, match="cut off or corrupt"):
        bgr_from_jpeg_or_png(png(8, 8, extra=extra))


def test_a_picture_whose_decoding_takes_too_much_memory_is_refused_before() -> None:
    most_pixels = MAX_DECODING_BYTES // 6
    content = png(8192, most_pixels // 8192 + 1, bit_depth=1)
    assert len(content) < 20_000
    with pytest.raises(ImageMessageError, match=f"expected at most {most_pixels} altogether"):
        bgr_from_jpeg_or_png(content)
    with pytest.raises(ImageMessageError, match=f"expected at most {most_pixels} altogether"):
        bgr_from_jpeg_or_png(declaring(jpeg(16, 16), height=8192, width=8192))


def test_scans_times_pixels_of_a_jpeg_are_bounded() -> None:
    content = jpeg(16, 16, progressive=True)
    scans = content.count(b"\xff\xda")
    assert 1 < scans < 20
    with pytest.raises(ImageMessageError, match=rf"{scans} scans of 8192×4096 pixels, .* send baseline JPEG"):
        bgr_from_jpeg_or_png(declaring(content, height=4096, width=8192))


def test_a_jpeg_of_several_scans_counts_what_the_decoder_keeps_between_them() -> None:
    # 4:4:4 keeps two bytes for each of three components: 9 bytes a pixel with the output
    content = jpeg(16, 16, progressive=True, sampling=0x111111)
    few_scans = content[: content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)]
    second = content.rindex(b"\xff\xda")
    with pytest.raises(ImageMessageError, match=f"expected at most {MAX_DECODING_BYTES // 9} altogether"):
        bgr_from_jpeg_or_png(declaring(few_scans + content[second:], height=5000, width=8192))


@pytest.mark.parametrize("where", ["before", "behind"])
def test_a_jpeg_of_ever_more_comments_is_refused_at_once(where: str) -> None:
    content = jpeg(16, 16, progressive=True)
    place = 2 if where == "before" else content.rindex(b"\xff\xda")
    bomb = content[:place] + b"\xff\xfe\x00\x02" * 2_000_000 + content[place:]
    with pytest.raises(ImageMessageError, match="more than 1024 segments"):
        bgr_from_jpeg_or_png(bomb)
    assert min(seconds_to_refuse_or_read(bomb) for _ in range(3)) < 0.2


def test_a_jpeg_with_an_exif_thumbnail_and_a_profile_in_255_parts_is_read() -> None:
    content = jpeg(16, 16)
    segment = b"\xff\xe2" + struct.pack(">H", 2 + 60) + b"ICC_PROFILE\0" + bytes(48)
    assert bgr_from_jpeg_or_png(content[:2] + segment * 255 + content[2:]).shape == (16, 16, 3)


def test_a_jpeg_cut_off_at_any_byte_before_its_pixels_is_an_error() -> None:
    content = jpeg(16, 16)
    for end in range(3, content.index(b"\xff\xda")):
        with pytest.raises(ImageMessageError, match=f"JPEG of {end} bytes is cut off"):
            bgr_from_jpeg_or_png(content[:end])


@pytest.mark.parametrize("alone", [b"\xff\x01", b"\xff\xd0", b"\xff\xd7"])
def test_markers_without_a_length_are_passed(alone: bytes) -> None:
    content = jpeg(16, 16)
    pixels = bgr_from_jpeg_or_png(content[:2] + alone + content[2:])
    np.testing.assert_array_equal(pixels, bgr_from_jpeg_or_png(content))


@pytest.mark.parametrize("frame", [b"", b"\x08\x00\x10", b"\x08\x00\x10\x00\x10\x00"])
def test_a_jpeg_whose_frame_header_is_short_is_an_error(frame: bytes) -> None:
    content = (
        b"\xff\xd8\xff\xc2" + struct.pack(">H", 2 + len(frame)) + frame + 2 * b"\xff\xda\x00\x02" + b"\x00\xff\xd9"
    )
    with pytest.raises(ImageMessageError, match=r"cut off or corrupt|is corrupt|cannot be decoded"):
        bgr_from_jpeg_or_png(content)


_PEAK = """
import resource, sys
from pathlib import Path
from darkseg_ros.frames.compressed_images import bgr_from_jpeg_or_png
from darkseg_ros.frames.value_range import ValueRange

def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1])
bgr_from_jpeg_or_png((folder / "tiny").read_bytes())
content = (folder / "picture").read_bytes()
before = peak_bytes()
shape = bgr_from_jpeg_or_png(content).shape
print((peak_bytes() - before) / shape[0] / shape[1])
"""


@pytest.mark.parametrize(
    ("kind", "bytes_per_pixel"),
    [("1-bit PNG", 6), ("16-bit PNG", 6), ("JPEG", 6), ("progressive JPEG, 4:2:0", 6), ("progressive JPEG, 4:4:4", 9)],
)
def test_decoding_takes_no_more_memory_than_is_counted(tmp_path: Path, kind: str, bytes_per_pixel: int) -> None:
    height, width = 2048, 2048
    if "PNG" in kind:
        content = png(width, height, bit_depth=int(kind.partition("-")[0]))
    else:
        content = jpeg(height, width, progressive="prog" in kind, sampling=0x111111 if "4:4:4" in kind else 0x221111)
    (tmp_path / "picture").write_bytes(content)
    (tmp_path / "tiny").write_bytes(png(4, 4) if "PNG" in kind else jpeg(4, 4))
    with start_python(["-c", _PEAK, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        measured, _ = process.communicate(timeout=60)
    assert float(measured) < 1.1 * bytes_per_pixel


def test_fill_bytes_before_a_marker_are_passed() -> None:
    content = jpeg(16, 16)
    np.testing.assert_array_equal(
        bgr_from_jpeg_or_png(content[:2] + b"\xff\xff" + content[2:]), bgr_from_jpeg_or_png(content)
    )


@pytest.mark.parametrize(("more", "refused"), [(63, False), (64, True)])
def test_a_jpeg_of_more_than_64_scans_is_refused(more: int, refused: bool) -> None:
    content = jpeg(16, 16)[:-2] + b"\xff\xda\x00\x02" * more + b"\xff\xd9"
    assert content.count(b"\xff\xda") == more + 1
    told = ""
    try:
        bgr_from_jpeg_or_png(content)
    except ImageMessageError as error:
        told = str(error)
    assert ("the JPEG has 65 scans, expected at most 64" in told) == refused


def test_a_jpeg_of_two_frame_headers_is_refused_before_one_is_believed() -> None:
    content = jpeg(16, 16)
    start = content.index(b"\xff\xc0")
    header = content[start : start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")]
    with pytest.raises(ImageMessageError, match="cut off or corrupt"):
        bgr_from_jpeg_or_png(content[:start] + header + content[start:])


def test_a_jpeg_without_its_end_is_refused() -> None:
    content = jpeg(16, 16)
    with pytest.raises(ImageMessageError, match="cut off or corrupt"):
        bgr_from_jpeg_or_png(content[:-2])


def test_values_of_16_bit_grey_use_the_range_of_their_stream_and_colours_their_upper_byte() -> None:
    grey = cv2.imencode(".png", np.array([[0, 512, 1023]], np.uint16))[1].tobytes()
    assert bgr_from_jpeg_or_png(grey).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    value_range = ValueRange()
    value_range.to_8_bits(np.array([[65535]], np.uint16))
    assert bgr_from_jpeg_or_png(grey, value_range=value_range).tolist() == [[[0] * 3, [2] * 3, [3] * 3]]
    colours = cv2.imencode(".png", np.array([[[256, 512, 1023]]], np.uint16))[1].tobytes()
    assert bgr_from_jpeg_or_png(colours).tolist() == [[[1, 2, 3]]]


def test_what_is_neither_jpeg_nor_png_is_told_by_its_first_bytes() -> None:
    with pytest.raises(ImageMessageError, match="got 6 bytes starting 47494638; use jpeg or png"):
        bgr_from_jpeg_or_png(b"GIF89a")
    with pytest.raises(ImageMessageError, match=r"got 0 bytes starting \(empty\)"):
        bgr_from_jpeg_or_png(b"")


@pytest.mark.parametrize(("height", "width"), [(4, 9), (9, 4)])
def test_a_picture_keeps_its_height_and_width(height: int, width: int) -> None:
    assert bgr_from_jpeg_or_png(jpeg(height, width)).shape == (height, width, 3)
    assert bgr_from_jpeg_or_png(png(width, height)).shape == (height, width, 3)


def test_a_jpeg_keeps_its_colours() -> None:
    picture = np.full((16, 16, 3), (200, 100, 20), np.uint8)
    pixels = bgr_from_jpeg_or_png(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes())
    np.testing.assert_allclose(pixels, picture, atol=3)


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_a_second_size_is_found_in_every_kind_of_frame_header(marker: int) -> None:
    """ITU-T T.81, table B.1: C4, C8 and CC are no frame headers."""
    content = jpeg(16, 16)
    start = content.index(b"\xff\xc0")
    header = content[start : start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")]
    told = ""
    try:
        bgr_from_jpeg_or_png(content[:start] + bytes([0xFF, marker]) + header[2:] + content[start:])
    except ImageMessageError as error:
        told = str(error)
    assert told.startswith(f"the JPEG of {len(content) + len(header)} bytes is cut off") == (
        marker not in (0xC4, 0xC8, 0xCC)
    )


@pytest.mark.parametrize(("pixels", "fits"), [(2**18, True), (2**18 - 1, False)])
def test_a_jpeg_may_have_as_many_pixels_as_its_scans_leave_it(
    pixels: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = jpeg(256, 512, progressive=True)
    scans = content.count(b"\xff\xda")
    monkeypatch.setattr("darkseg_ros.frames.compressed_images.MAX_SCANNED_PIXELS", scans * pixels // 2)
    if fits:
        assert bgr_from_jpeg_or_png(content).shape == (256, 512, 3)
    else:
        with pytest.raises(ImageMessageError, match=f"expected at most {scans * pixels // 2 // scans} pixels"):
            bgr_from_jpeg_or_png(content)


@pytest.mark.parametrize(("sampling", "bytes_per_pixel"), [(0x111111, 9), (0x211111, 7), (0x221111, 6), (0x411111, 6)])
def test_memory_of_several_scans_depends_on_how_colours_are_sampled(
    sampling: int, bytes_per_pixel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bytes a coefficient: 6, 4 and 3 a pixel at 4:4:4, 4:2:2 and 4:2:0, and 3 of the picture."""
    content = jpeg(16, 16, progressive=True, sampling=sampling)
    monkeypatch.setattr("darkseg_ros.frames.compressed_images.MAX_DECODING_BYTES", 256 * bytes_per_pixel)
    assert bgr_from_jpeg_or_png(content).shape == (16, 16, 3)
    monkeypatch.setattr("darkseg_ros.frames.compressed_images.MAX_DECODING_BYTES", 256 * bytes_per_pixel - 1)
    with pytest.raises(ImageMessageError, match="expected at most 255 altogether"):
        bgr_from_jpeg_or_png(content)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2)])
def test_16_bit_grey_with_and_without_transparency_has_a_range(colour_type: int, channels: int) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, colour_type, 0, 0, 0)
    row = b"\0" + b"".join(struct.pack(">H", value) + b"\xff\xff" * (channels - 1) for value in (0, 1023))
    content = _PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert bgr_from_jpeg_or_png(content).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("colour_type", [0, 2])
def test_8_bit_values_are_taken_as_they_are(colour_type: int) -> None:
    channels = {0: 1, 2: 3}[colour_type]
    header = struct.pack(">IIBBBBB", 2, 1, 8, colour_type, 0, 0, 0)
    row = b"\0" + bytes([7] * channels + [200] * channels)
    content = _PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert bgr_from_jpeg_or_png(content).tolist() == [[[7] * 3, [200] * 3]]


def test_a_jpeg_turns_as_its_exif_says_for_who_asks() -> None:
    exif = b"Exif\0\0II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    content = jpeg(8, 16)
    turned = content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + content[2:]
    assert bgr_from_jpeg_or_png(turned).shape == (8, 16, 3)
    assert bgr_from_jpeg_or_png(turned, upright=True).shape == (16, 8, 3)


def test_a_png_cut_off_at_any_byte_is_an_error() -> None:
    content = png(8, 8)
    for end in range(8, len(content)):
        with pytest.raises(ImageMessageError, match=f"PNG of {end} bytes is cut off or corrupt"):
            bgr_from_jpeg_or_png(content[:end])
