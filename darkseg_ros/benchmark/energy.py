"""The energy counters of the processor's packages (RAPL), where the kernel shows them and lets them be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class PackageCounter:
    """One package's counter.

    Attributes:
        path: of energy_uj, microjoules.
        range_uj: where it starts again at 0.
    """

    path: Path
    range_uj: int

    def read_uj(self) -> int:
        return int(self.path.read_text())


def find_package_counters(powercap: Path = _POWERCAP) -> tuple[PackageCounter, ...]:
    """Those of whole packages that may be read; none where there are none, as in most virtual machines.

    Their parts (cores, memory) are left out, which a package's counter mostly holds already. Since 2020 the kernel
    lets only root read them (CVE-2020-8694).
    """
    counters = []
    for domain in sorted(powercap.glob("*")):
        try:
            if not (domain / "name").read_text().startswith("package"):
                continue
            counter = PackageCounter(domain / "energy_uj", int((domain / "max_energy_range_uj").read_text()))
            counter.read_uj()
        except (OSError, ValueError):
            continue
        counters.append(counter)
    return tuple(counters)


class EnergyMeter:
    """Joules since it was made; a counter may start again once in that time."""

    def __init__(self, counters: tuple[PackageCounter, ...]) -> None:
        self._counters = counters
        self._start_uj = [counter.read_uj() for counter in counters]

    def joules(self) -> float | None:
        """None without counters."""
        if not self._counters:
            return None
        spent_uj = 0
        for counter, start_uj in zip(self._counters, self._start_uj, strict=True):
            difference_uj = counter.read_uj() - start_uj
            spent_uj += difference_uj if difference_uj >= 0 else difference_uj + counter.range_uj
        return spent_uj / 1e6
