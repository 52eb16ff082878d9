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
_INSTRUCTION_SETS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "AVX-VNNI": ("avx_vnni",),
    "AVX-512 VNNI": ("avx512_vnni",),
    "AMX int8": ("amx_tile", "amx_int8"),
    "NEON": ("asimd",),
    "NEON dot product": ("asimddp",),
    "NEON int8 matrices": ("i8mm",),
    "SVE": ("sve",),
}
"""Those that inference libraries choose their kernels by, and the flags of each, all of which must be there."""

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
        instruction_sets: of the CPU that inference libraries choose their kernels by: CPUs of one model name differ in
            them where a hypervisor hides some, which makes a factor of two for int8. None in reports that were written
            before they were recorded.
    """

    cpu_model: str
    cores: int
    gpus: tuple[str, ...]
    memory_mb: float
    kernel: str
    governor: str | None
    load_average_before: float
    instruction_sets: tuple[str, ...] | None = None

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
        instruction_sets=read_instruction_sets(),
    )


def read_instruction_sets(cpu_info: Path = _CPU_INFO) -> tuple[str, ...]:
    """Of this machine's CPU, as the kernel tells them: names of `_INSTRUCTION_SETS`, in that order.

    Args:
        cpu_info: ``/proc/cpuinfo``; its first CPU speaks for all.
    """
    flags = set((_value_of(cpu_info, "flags") or _value_of(cpu_info, "Features") or "").split())
    return tuple(name for name, needed in _INSTRUCTION_SETS.items() if flags.issuperset(needed))


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
