"""Pictures missing from an H.264 or H.265 stream, by the numbers that the pictures carry.

Source: ITU-T H.264, 7.3.2.1.1, 7.3.3, 7.4.3; ITU-T H.265, 7.3.1.2, 7.3.2.2, 7.3.2.3, 7.3.6.1, 8.3.1.
"""

from __future__ import annotations

from typing import Protocol

_H264_SLICE, _H264_IDR_SLICE, _H264_SPS = 1, 5, 7
_H264_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)

_HEVC_SLICES = range(10)
_HEVC_KEYFRAMES = range(16, 22)
"""BLA, IDR and CRA pictures."""
_HEVC_IDR = (19, 20)
_HEVC_SPS, _HEVC_PPS = 33, 34

_SLICE_HEADER_BYTES, _PARAMETERS_BYTES = 64, 512
"""What is looked at of a unit: what is read here lies within."""


class PictureNumbers(Protocol):
    """The numbers of one stream's pictures. Units are NAL units without their start code.

    Attributes:
        range: numbers start anew after so many.
    """

    range: int

    @staticmethod
    def is_keyframe(unit: bytes) -> bool:
        """Whether decoding can begin with the picture of this unit."""

    def missing_before(self, units: list[bytes]) -> int:
        """Pictures missing before a packet, as far as numbers tell; 0 for one without a picture.

        Raises:
            IndexError: if a header ends early.
        """


class H264FrameNumbers:
    """`frame_num` of each slice counts reference frames.

    A stream whose numbers have gaps by intent (temporal layers) shows its keyframes only.
    """

    def __init__(self) -> None:
        self.range = 16
        self._separate_planes = False
        self._last: int | None = None

    @staticmethod
    def is_keyframe(unit: bytes) -> bool:
        return unit[0] & 31 == _H264_IDR_SLICE

    def missing_before(self, units: list[bytes]) -> int:
        for unit in units:
            kind = unit[0] & 31
            if kind == _H264_SPS:
                self._read_parameters(_Bits(unit[1:_PARAMETERS_BYTES]))
            elif kind == _H264_IDR_SLICE:
                self._last = 0
                return 0
            elif kind == _H264_SLICE:
                bits = _Bits(unit[1:_SLICE_HEADER_BYTES])
                return self._missing_before_slice(bits, is_reference=unit[0] & 0x60 != 0)
        return 0

    def _missing_before_slice(self, bits: _Bits, *, is_reference: bool) -> int:
        for _ in range(3):  # first macroblock, type, picture parameters
            bits.exp_golomb()
        if self._separate_planes:
            bits.number(2)
        number = bits.number(self.range.bit_length() - 1)
        # the second field of a frame has the number of the first one
        missing = 0 if self._last is None or number == self._last else (number - self._last - 1) % self.range
        if is_reference or self._last is None:
            self._last = number
        return missing

    def _read_parameters(self, bits: _Bits) -> None:
        profile = bits.number(8)
        bits.number(16)  # constraints, level
        bits.exp_golomb()
        self._separate_planes = False
        if profile in _H264_HIGH_PROFILES:
            chroma_format = bits.exp_golomb()
            if chroma_format == 3:
                self._separate_planes = bits.number(1) == 1
            bits.exp_golomb()
            bits.exp_golomb()
            bits.number(1)
            if bits.number(1):
                for index in range(12 if chroma_format == 3 else 8):
                    if bits.number(1):
                        _skip_scaling_list(bits, 16 if index < 6 else 64)
        self.range = 1 << (4 + min(12, bits.exp_golomb()))


class HevcPictureOrder:
    """`slice_pic_order_cnt_lsb` of each picture counts in steps of the encoder's choice, mostly of one.

    The step is the smallest one seen. An IDR picture begins at zero, so what is missing before it is not known.
    """

    def __init__(self) -> None:
        self.range = 16
        self._range_known = False
        self._separate_planes = False
        self._extra_bits = 0
        self._output_flag = False
        self._last: int | None = None
        self._step: int | None = None
        self._seen_once = False

    @staticmethod
    def is_keyframe(unit: bytes) -> bool:
        return _hevc_kind(unit) in _HEVC_KEYFRAMES

    def missing_before(self, units: list[bytes]) -> int:
        for unit in units:
            kind = _hevc_kind(unit)
            if kind == _HEVC_SPS:
                self._read_sequence_parameters(_Bits(unit[2:_PARAMETERS_BYTES]))
            elif kind == _HEVC_PPS:
                self._read_picture_parameters(_Bits(unit[2:_PARAMETERS_BYTES]))
            elif kind in _HEVC_IDR:
                self._last = 0
                return 0
            elif kind in _HEVC_SLICES or kind in _HEVC_KEYFRAMES:
                return self._missing_before_slice(_Bits(unit[2:_SLICE_HEADER_BYTES]), kind) if self._range_known else 0
        return 0

    def _missing_before_slice(self, bits: _Bits, kind: int) -> int:
        if not bits.number(1):
            return 0  # not the first slice of its picture
        if kind in _HEVC_KEYFRAMES:
            bits.number(1)
        bits.exp_golomb()  # picture parameters
        bits.number(self._extra_bits)
        bits.exp_golomb()  # type
        bits.number(int(self._output_flag))
        if self._separate_planes:
            bits.number(2)
        last, self._last = self._last, bits.number(self.range.bit_length() - 1)
        distance = 0 if last is None else (self._last - last) % self.range
        if not 0 < distance <= self.range // 2:
            return 0  # the same picture once more, or one that is shown before those it needs
        step, seen_once = self._step, self._seen_once
        self._step, self._seen_once = min(distance, step or distance), step is None
        missing = distance // self._step - 1
        if step is not None and seen_once and self._step < step:
            missing += step // self._step - 1  # the first step seen went over lost pictures
        return missing

    def _read_sequence_parameters(self, bits: _Bits) -> None:
        bits.number(4)  # video parameters
        layers_below = bits.number(3)
        bits.number(1 + 88 + 8)  # nesting, profile, level
        profile_and_level = [(bits.number(1), bits.number(1)) for _ in range(layers_below)]
        if layers_below:
            bits.number(2 * (8 - layers_below))
        for has_profile, has_level in profile_and_level:
            bits.number(88 * has_profile + 8 * has_level)
        bits.exp_golomb()
        self._separate_planes = bits.exp_golomb() == 3 and bits.number(1) == 1
        bits.exp_golomb()  # width
        bits.exp_golomb()  # height
        if bits.number(1):
            for _ in range(4):  # cropping
                bits.exp_golomb()
        bits.exp_golomb()  # depth of luma
        bits.exp_golomb()  # depth of chroma
        self.range = 1 << (4 + min(12, bits.exp_golomb()))
        self._range_known = True

    def _read_picture_parameters(self, bits: _Bits) -> None:
        bits.exp_golomb()
        bits.exp_golomb()
        bits.number(1)
        self._output_flag = bits.number(1) == 1
        self._extra_bits = bits.number(3)


PICTURE_NUMBERS: dict[str, type[PictureNumbers]] = {"h264": H264FrameNumbers, "hevc": HevcPictureOrder}
"""By FFmpeg's names of the codecs."""


def _hevc_kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            following = (last + (-(code // 2) if code % 2 == 0 else (code + 1) // 2)) % 256
        last = following or last


class _Bits:
    """Reads a NAL unit bit by bit; IndexError at its end."""

    def __init__(self, unit: bytes) -> None:
        self._bytes = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._position = 0

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self._bytes[self._position >> 3] >> (7 - (self._position & 7)) & 1
            self._position += 1
        return value

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.number(1):
            zeros += 1
        return (1 << zeros) - 1 + self.number(zeros)
