"""Where a benchmark ran, and with what."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkseg_ros.installed_files import package_version

_LIBRARIES = (
    *("numpy", "opencv-python-headless", "opencv-python"),
    *("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13"),
    *("torch", "torchvision", "segmentation-models-pytorch", "timm", "transformers"),
)
_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Machine:
    """What figures depend on.

    Attributes:
        cpu_model: as the kernel names it.
        cores: that this process may use.
        gpus: models of the NVIDIA GPUs.
        memory_mb: of the machine, 10⁶ bytes.
        kernel: its release.
        governor: of the CPU's frequency; None where the platform does not tell.
        load_average_before: processes that ran or waited, over the minute before the benchmark.
    """

    cpu_model: str
    cores: int
    gpus: tuple[str, ...]
    memory_mb: float
    kernel: str
    governor: str | None
    load_average_before: float

    @property
    def was_busy(self) -> bool:
        """Whether other work took half of the cores or more, so that times say little and ratios still something."""
        return self.load_average_before >= self.cores / 2


def read_machine() -> Machine:
    """This machine, now."""
    return Machine(
        cpu_model=_value_of(_CPU_INFO, "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        gpus=tuple(_value_of(path, "Model") or "NVIDIA" for path in sorted(_NVIDIA_GPUS.glob("*/information"))),
        memory_mb=int((_value_of(_MEMORY_INFO, "MemTotal") or "0 kB").split()[0]) * 1024 / 1e6,
        kernel=platform.release(),
        governor=_GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else None,
        load_average_before=os.getloadavg()[0],
    )


def read_versions() -> dict[str, str]:
    """Of this package, Python, and the libraries of contestants that are installed."""
    versions = {"darkseg_ros": package_version(), "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _value_of(path: Path, key: str) -> str | None:
    """Of the first line ``key: value``."""
    for line in path.read_text().splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return None
