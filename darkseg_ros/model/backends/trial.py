"""A graph's first run, in a process of its own with limits: a file of 400 bytes may ask for gigabytes, or never end.

It costs as much as to open the graph once more, and happens once for each graph and library on a machine: what passed
is kept in the user's cache folder. Where that cannot be written, each start runs the trial.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import darkseg_ros
from darkseg_ros.cache_folder import cache_folder, read_private, write_private
from darkseg_ros.child_processes import start_python
from darkseg_ros.errors import EngineError

CPU_S_MAX = 60
"""Processor time for import, compilation and one frame: ResNet-101 at 2048×1024 takes some 20 s."""

WALL_S_MAX = 300.0
"""Whatever the processor does: a machine with five times as much to do as it can still opens its model."""

_BYTES_MAX = 2**31
_BYTES_A_PIXEL_MAX = 2048
_COMPLAINT_BYTES_MAX = 2**16
REFUSED = 3
"""Exit status of a process whose library refuses the graph; it says so in one line on stderr."""

# -I -S: no module of the working folder, no start-up hook of the environment, which takes most of Python's start
_PROCESS = (
    "import json, sys\n"
    "order = json.loads(sys.argv[1])\n"
    "sys.path[:] = order.pop('python_path')\n"
    "from darkseg_ros.model.backends.trial_process import main\n"
    "sys.exit(main(order['trial'], order['cpu_s_max']))"
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What is opened, and all that its outcome depends on.

    Attributes:
        library: openvino or onnxruntime.
        library_version: as the library says.
        graph: its file.
        graph_sha256: of that file.
        weights: the file of an IR's weights; None for ONNX.
        weights_sha256: of that file.
        outputs: the names that its outputs must have.
        network_hw: of the frame that it runs on.
    """

    library: str
    library_version: str
    graph: str
    graph_sha256: str
    outputs: tuple[str, ...]
    network_hw: tuple[int, int]
    weights: str | None = None
    weights_sha256: str | None = None

    @property
    def bytes_max(self) -> int:
        """The memory that the process may have of its own."""
        return _BYTES_MAX + self.network_hw[0] * self.network_hw[1] * _BYTES_A_PIXEL_MAX

    @property
    def path(self) -> Path:
        """The file that says that it passed, in ``trials`` of the user's `cache_folder`, which raises where is none."""
        facts = asdict(self) | {"graph": "", "weights": "", "limits": [CPU_S_MAX, self.bytes_max]}
        return cache_folder("trials") / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def try_once(trial: Trial) -> None:
    """Run a trial, unless the same graph passed it before.

    Raises:
        EngineError: if the library refuses the graph, or the graph takes more memory or time than any network needs.
    """
    try:
        passed = read_private(trial.path) == b""
    except (EngineError, OSError):
        passed = False
    if passed:
        return
    _run(trial)
    try:
        write_private(trial.path, b"")
    except (EngineError, OSError) as error:
        _LOG.warning("the graph is tried again at each start: that it passed cannot be kept (%s)", error)


def _run(trial: Trial) -> None:
    paths = [str(Path(darkseg_ros.__file__).resolve().parent.parent), *(each for each in sys.path if each)]
    order = json.dumps({"trial": asdict(trial), "cpu_s_max": CPU_S_MAX, "python_path": paths})
    process = start_python(
        ["-I", "-S", "-c", _PROCESS, order],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            _, complaint = process.communicate(timeout=WALL_S_MAX)
        except BaseException as error:  # Ctrl-C as well
            process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            complaint = b""
    if not process.returncode:
        return
    *_, text = complaint[-_COMPLAINT_BYTES_MAX:].decode(errors="replace").splitlines() or [""]  # libraries add theirs
    if process.returncode == REFUSED:
        raise EngineError(text)
    ended = {-signal.SIGXCPU: f"took more than {CPU_S_MAX} s of processor time", -signal.SIGKILL: "did not end in time"}
    raise EngineError(
        f"{trial.graph} is refused: in a trial run with {trial.bytes_max / 2**30:.1f} GiB of memory it "
        f"{ended.get(process.returncode, f'ended with status {process.returncode}')} {text}; export a smaller model"
    )
