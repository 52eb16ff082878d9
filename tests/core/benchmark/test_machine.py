from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.benchmark.machine import read_instruction_sets, read_machine
from darkseg_ros.benchmark.report import read_report

DOCS = Path(__file__).resolve().parents[3] / "docs" / "benchmarks"


@pytest.mark.parametrize(
    ("cpu_info", "sets"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu sse2 avx avx2 fma\n", ("AVX2",)),
        (
            "flags : avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni amx_tile amx_int8 avx_vnni\n",
            ("AVX2", "AVX-512", "AVX-VNNI", "AVX-512 VNNI", "AMX int8"),
        ),
        ("flags : avx2 avx512f amx_tile\n", ("AVX2",)),  # Knights Landing's AVX-512 is not the one of servers
        ("Features\t: fp asimd asimddp i8mm\n", ("NEON", "NEON dot product", "NEON int8 matrices")),
        ("processor : 0\n", ()),
    ],
)
def test_instruction_sets_are_read_as_the_kernel_tells_them(tmp_path: Path, cpu_info: str, sets: tuple[str]) -> None:
    (tmp_path / "cpuinfo").write_text(cpu_info)
    assert read_instruction_sets(tmp_path / "cpuinfo") == sets


def test_this_machine_tells_its_own() -> None:
    assert read_machine().instruction_sets == read_instruction_sets()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.json")), ids=lambda path: path.name)
def test_published_reports_are_read_also_those_from_before_the_sets_were_recorded(path: Path) -> None:
    recorded = path.stem > "2026-11-26"
    assert (read_report(path).machine.instruction_sets is not None) == recorded
