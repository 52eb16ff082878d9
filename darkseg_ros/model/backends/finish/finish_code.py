"""Machine code of the kernel in `numba_finish`: compiled once per machine, then loaded from a file.

Numba compiles it in a process of its own, since to import Numba costs a hundred megabytes and a second. Where the
machine has a linker (``ld`` of binutils, or another of that name), the code is a shared library, which the system
loads; elsewhere it is an object file, which llvmlite loads, a library of 46 MB. Either lies in ``finish_code`` of the
user's `cache_folder`, one file per key, sealed by a SHA-256 over key and code: a file that is truncated, altered or
another key's is compiled anew, never run. Where the folder cannot be written, each start compiles.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import darkseg_ros
from darkseg_ros.cache_folder import cache_folder
from darkseg_ros.errors import EngineError
from darkseg_ros.whole_files import write_whole

SYMBOL = "darkseg_finish"
"""Name of the kernel's function in the code."""

KERNEL_SOURCES = tuple(
    Path(__file__).with_name(name) for name in ("numba_finish.py", "numba_vectors.py", "compiled_finish.py")
)
"""The kernel and the way to its code, what it is written in, and its caller: they must agree on the arguments."""

CPU_INFO = Path("/proc/cpuinfo")

_CPU_FACTS = frozenset(
    # x86
    ("vendor_id", "cpu family", "model", "model name", "flags")
    # ARM
    + ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")
)

_SHARED_LIBRARY = 3  # ET_DYN, in bytes 16 and 17 of an ELF file

_SEAL_BYTES = hashlib.sha256().digest_size
_COMPILE_AT_MOST_S = 300.0
_PROCESS = "import sys; from darkseg_ros.model.backends.finish.numba_finish import main; main(sys.argv[1])"

_ONE_AT_A_TIME = threading.Lock()

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodeKey:
    """All that the code depends on.

    Attributes:
        kernel_sha256: of `KERNEL_SOURCES`, one behind the other.
        numba_version: of the compiler.
        llvmlite_version: of its back end, which also loads object files.
        linker: path of the machine's; empty where it has none, and the code is an object file.
        machine: processor family, as the system names it.
        cpu: the processor and its instruction sets, as the system describes them.
    """

    kernel_sha256: str
    numba_version: str
    llvmlite_version: str
    linker: str
    machine: str
    cpu: str

    @staticmethod
    def of_this_machine() -> CodeKey:
        """The key of the kernel here and now.

        Raises:
            EngineError: if Numba is not installed.
        """
        try:
            numba_version, llvmlite_version = version("numba"), version("llvmlite")
        except PackageNotFoundError as error:
            raise EngineError(f"{error.name} is not installed; run `pip install numba`") from error
        return CodeKey(
            kernel_sha256=hashlib.sha256(b"".join(path.read_bytes() for path in KERNEL_SOURCES)).hexdigest(),
            numba_version=numba_version,
            llvmlite_version=llvmlite_version,
            linker=find_linker(),
            machine=platform.machine(),
            cpu=describe_cpu(),
        )

    @property
    def digest(self) -> str:
        """Name of the code's file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]

    @property
    def path(self) -> Path:
        """The file of this key, in ``finish_code`` of the user's `cache_folder`, which raises where there is none."""
        return cache_folder("finish_code") / f"{self.digest}.sealed"


class LoadedCode:
    """Machine code in memory, ready to run for as long as this object lives.

    Args:
        code: an ELF shared library, or object file, that defines `SYMBOL`.

    Attributes:
        address: of the function.

    Raises:
        EngineError: if the system does not load the shared library, or llvmlite, for an object file, is missing.
    """

    def __init__(self, code: bytes) -> None:
        self._owner: Any
        self.address: int
        if int.from_bytes(code[16:18], sys.byteorder) == _SHARED_LIBRARY:
            self._owner = _open_library(code)
            self.address = ctypes.cast(self._owner[SYMBOL], ctypes.c_void_p).value or 0
        else:
            self._owner = _open_object(code)
            self.address = self._owner.get_function_address(SYMBOL)


def _open_library(code: bytes) -> ctypes.CDLL:
    """From memory: what runs is what was checked, and no folder need allow programs."""
    descriptor = os.memfd_create(SYMBOL)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(code)
        # stays open, as the library stays loaded: the linker would take the next one of this name for the same
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        os.close(descriptor)
        raise EngineError(f"the system does not load the compiled kernel ({error}); allow it, or remove ld") from error


def _open_object(code: bytes) -> Any:
    try:
        from llvmlite import binding
    except ImportError as error:
        raise EngineError(f"llvmlite, a part of Numba, does not import ({error}); run `pip install numba`") from error
    initialise_llvm(binding)
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine()
    loader = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    loader.add_object_file(binding.ObjectFileRef.from_data(code))
    loader.finalize_object()
    return loader


def initialise_llvm(binding: Any) -> None:
    """Make llvmlite's binding ready to emit and load code of this machine."""
    with contextlib.suppress(RuntimeError, AttributeError):  # newer versions refuse it, as there is nothing to do
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def load_kernel() -> LoadedCode:
    """The kernel's code, from its file where there is one, else compiled; takes 0.1 s, or some four.

    Raises:
        EngineError: if Numba or llvmlite is missing, or the compilation fails.
    """
    key = CodeKey.of_this_machine()
    with _ONE_AT_A_TIME:  # the second of two engines that open in one process finds what the first compiled
        code = _kept(key)
        if code is None:
            _LOG.info("compiling the kernel that finishes class maps, once for this machine: some seconds")
            code = _compile(key)
            _keep(key, code)
    return LoadedCode(code)


def sealed(code: bytes, digest: str) -> bytes:
    """Code behind a SHA-256 of itself and its key's digest."""
    return hashlib.sha256(digest.encode() + code).digest() + code


def unsealed(content: bytes, digest: str) -> bytes | None:
    """The code of `sealed`; None where the content is not what it wrote for this key."""
    code = content[_SEAL_BYTES:]
    return code if content == sealed(code, digest) else None


def find_linker() -> str:
    """Path of the machine's linker, empty without one."""
    return shutil.which("ld") or ""


def describe_cpu() -> str:
    """What Linux says of the first processor and its instruction sets; elsewhere what Python says of its name."""
    try:
        first = CPU_INFO.read_text().split("\n\n")[0]
    except OSError:
        return platform.processor()
    return "\n".join(line for line in first.splitlines() if line.partition("\t")[0].strip(" :") in _CPU_FACTS)


def _kept(key: CodeKey) -> bytes | None:
    try:
        return unsealed(key.path.read_bytes(), key.digest)
    except (EngineError, OSError):
        return None


def _keep(key: CodeKey, code: bytes) -> None:
    try:
        write_whole(key.path, sealed(code, key.digest))
    except EngineError as error:
        _LOG.warning("the kernel that finishes class maps is compiled again at each start, some seconds: %s", error)
    except OSError as error:
        _LOG.warning(
            "the kernel that finishes class maps is compiled again at each start, some seconds: %s cannot be written "
            "(%s); make it writable, or set XDG_CACHE_HOME to a folder that is and has room",
            key.path.parent,
            error.strerror,
        )


def _compile(key: CodeKey) -> bytes:
    package_root = Path(darkseg_ros.__file__).resolve().parent.parent
    # NUMBA_*: settings that the key does not know, such as NUMBA_DISABLE_JIT
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package_root), os.environ.get("PYTHONPATH", "")]))
    try:
        compiler = subprocess.run(
            [sys.executable, "-c", _PROCESS, key.digest],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMPILE_AT_MOST_S,
            check=False,
            env=environment,
            cwd=package_root,  # Python and Numba look for modules and settings in the working folder
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"Numba cannot compile its kernel: {error}; start again") from error
    code = unsealed(compiler.stdout, key.digest)
    if compiler.returncode or code is None:
        words = compiler.stderr.decode(errors="replace").strip().splitlines() or ["none"]
        raise EngineError(
            f"Numba cannot compile its kernel (status {compiler.returncode}, last words: {words[-1]}); "
            "free memory if it was killed, else run `pip install --upgrade numba`"
        )
    return code
