from __future__ import annotations

from darkseg_ros.errors import EngineError, one_line


def test_the_line_breaks_of_a_library_become_spaces() -> None:
    assert (
        one_line(EngineError("it failed:\n    at line 3\r\n\tof the graph \n")) == "it failed: at line 3 of the graph"
    )
