from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkseg_ros.errors import BagError, BundleError, DarksegError, EngineError, InputError, one_line


def test_the_line_breaks_of_a_library_become_spaces() -> None:
    assert (
        one_line(EngineError("it failed:\n    at line 3\r\n\tof the graph \n")) == "it failed: at line 3 of the graph"
    )


@pytest.mark.parametrize("error", [DarksegError, InputError, BagError, BundleError, EngineError])
def test_a_name_in_an_error_cannot_write_a_second_line_or_move_the_cursor(error: type[DarksegError]) -> None:
    topic = "/a\n[ERROR] forged\x1b[2J\x1b]0;title\x07\u202egnp.exe\x00"
    assert str(error(f"no topic {topic}")) == (r"no topic /a [ERROR] forged\x1b[2J\x1b]0;title\x07\u202egnp.exe\x00")


def test_a_file_name_that_is_no_utf_8_can_be_printed() -> None:
    name = b"night\xff.png".decode(errors="surrogateescape")
    assert str(InputError(f"{name} is missing")) == r"night\udcff.png is missing"


def test_a_huge_name_keeps_its_beginning_and_the_cure() -> None:
    line = str(BagError(f"no topic /start{'x' * 900_000}; name another one"))
    assert line.startswith("no topic /startxxx")
    assert line.endswith("xxx; name another one")
    assert re.search(r" … \(\d{6} characters left out\) … ", line)
    assert len(line) < 2000


@given(text=st.text(alphabet=st.characters(), max_size=4000))
def test_any_text_becomes_one_printable_line_of_bounded_length(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) < 2000
    assert one_line(line) == line or len(line) > 1800


def test_words_in_any_script_stay_as_they_are() -> None:
    assert one_line("夜 über 🚗 – ошибка") == "夜 über 🚗 – ошибка"
