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


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    BadFrames().skip("frame 3 is empty")
    assert capsys.readouterr() == ("", "darkseg: skipped: frame 3 is empty\n")
