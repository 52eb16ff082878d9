from __future__ import annotations

import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames


def test_every_bad_frame_is_counted_and_the_first_ten_are_named() -> None:
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    assert bad_frames.summary() == ""
    for index in range(12):
        bad_frames.skip(f"frame {index} is empty")
    assert told[:10] == [f"skipped: frame {index} is empty" for index in range(10)]
    assert told[10:] == ["further bad frames are counted, not named"]
    assert bad_frames.count == 12
    assert bad_frames.summary() == ", 12 bad frames skipped"


def test_a_part_that_is_missing_is_told_but_is_no_frame() -> None:
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    bad_frames.miss("the end is cut off")
    assert (told, bad_frames.count) == (["the end is cut off"], 0)


def test_strict_ends_at_the_first() -> None:
    with pytest.raises(InputError, match="frame 3 is empty"):
        BadFrames(strict=True).skip("frame 3 is empty")
    with pytest.raises(InputError, match="the end is cut off"):
        BadFrames(strict=True).miss("the end is cut off")


def test_lost_packets_are_told_and_stand_in_the_summary() -> None:
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    bad_frames.lose(0, of="topic /a in drive")
    assert (told, bad_frames.summary()) == ([], "")
    bad_frames.skip("frame 3")
    bad_frames.lose(2, of="topic /a in drive")
    assert told[1:] == ["2 video packets of topic /a in drive never reached the recorder"]
    assert bad_frames.summary() == ", 1 bad frame skipped, 2 video packets lost"
    with pytest.raises(InputError, match="1 video packet of topic /a in drive never"):
        BadFrames(strict=True).lose(1, of="topic /a in drive")


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    BadFrames().skip("frame 3 is empty")
    assert capsys.readouterr() == ("", "darkseg: skipped: frame 3 is empty\n")
