from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.benchmark.energy import EnergyMeter, find_package_counters


def write_domain(powercap: Path, folder: str, name: str, energy_uj: int, *, range_uj: int = 1_000_000) -> Path:
    (powercap / folder).mkdir(parents=True)
    (powercap / folder / "name").write_text(f"{name}\n")
    (powercap / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (powercap / folder / "energy_uj").write_text(f"{energy_uj}\n")
    return powercap / folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_left_out(tmp_path: Path) -> None:
    first = write_domain(tmp_path, "intel-rapl:0", "package-0", 100)
    second = write_domain(tmp_path, "intel-rapl:1", "package-1", 900_000)
    part = write_domain(tmp_path, "intel-rapl:0:0", "core", 0)
    write_domain(tmp_path, "intel-rapl:2", "psys", 0)
    meter = EnergyMeter(find_package_counters(tmp_path))
    first.write_text("500100\n")
    second.write_text("150000\n")  # started again at 1000000: 250000 more
    part.write_text("400000\n")
    assert meter.joules() == pytest.approx(0.75)


def test_a_platform_that_does_not_tell_gives_no_energy(tmp_path: Path) -> None:
    assert EnergyMeter(find_package_counters(tmp_path / "missing")).joules() is None
    write_domain(tmp_path, "intel-rapl:0", "package-0", 0).unlink()
    (tmp_path / "intel-rapl").mkdir()
    assert find_package_counters(tmp_path) == ()
