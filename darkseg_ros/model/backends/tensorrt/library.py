"""Which TensorRT is installed, what it supports, and what it complains of: the full library or TensorRT for RTX."""

from __future__ import annotations

import importlib
import logging
import re
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from darkseg_ros.errors import EngineError, one_line

LIBRARIES = ("tensorrt", "tensorrt_rtx")
"""Modules with the same interface, the preferred one first."""

_ERRORS_KEPT = 8

_LOG = logging.getLogger(__name__)

_DRIVER_TOO_OLD = re.compile(r"driver version is insufficient|cudaError 35\b", re.IGNORECASE)


def installed_library(*, for_other_gpus: bool = False) -> str:
    """Name of the module to use.

    Args:
        for_other_gpus: whether it must build for GPUs that are not in this machine; TensorRT for RTX can.

    Raises:
        EngineError: if none is installed.
    """
    if for_other_gpus:
        if find_spec("tensorrt_rtx"):
            return "tensorrt_rtx"
        raise EngineError(
            "only TensorRT for RTX builds plans for GPUs of another machine, and it is not installed; "
            "run `pip install tensorrt-rtx-cu13`, or build on the vehicle without --for"
        )
    for name in LIBRARIES:
        if find_spec(name):
            return name
    raise EngineError(
        "TensorRT is not installed; run `pip install tensorrt` (`tensorrt-rtx-cu13` is smaller and serves GeForce and "
        "RTX cards from Turing on; a Jetson brings TensorRT with JetPack), or choose backend openvino or onnxruntime"
    )


def import_library(name: str) -> Any:
    """The module.

    Raises:
        EngineError: if it does not import, is only a folder of that name, or is older than version 10.
    """
    try:
        library = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"{name} does not import ({error}); install it again, or choose backend openvino or onnxruntime"
        ) from error
    if not hasattr(library, "__version__"):  # Python imports any folder, such as /usr/src/tensorrt from /usr/src
        raise EngineError(
            f"{name} is no library but the folder {', '.join(library.__path__)}; start from another working folder, "
            f"or run `pip install {name}`"
        )
    # TensorRT for RTX counts from 1
    if name == "tensorrt" and int(library.__version__.split(".")[0]) < 10:
        raise EngineError(f"tensorrt is version {library.__version__}, expected 10 or newer; update it")
    return library


def check_supported(name: str, library: Any, capability: str) -> None:
    """Refuse GPUs that TensorRT for RTX is not made for; the full library finds out when it builds.

    Raises:
        EngineError: naming what is supported.
    """
    capabilities = getattr(library, "ComputeCapability", None)
    if capabilities is not None and capability not in capabilities.__members__:
        supported = ", ".join(each for each in capabilities.__members__ if each.startswith("SM"))
        raise EngineError(
            f"{name} {library.__version__} does not support GPUs of {capability}, it supports {supported}; "
            "install the full TensorRT (`pip install tensorrt`), or choose backend openvino or onnxruntime"
        )


class LibraryLog:
    """Keeps the newest that the library logs as errors: its functions then only return None. Passes warnings on.

    Args:
        library: the module.
        driver_cuda: newest CUDA that the driver runs, for the error line; None where that is not known.

    Attributes:
        logger: to give to the library; it must live as long as what it was given to.
    """

    def __init__(self, library: Any, *, driver_cuda: str | None = None) -> None:
        errors: deque[str] = deque(maxlen=_ERRORS_KEPT)

        class Logger(library.ILogger):
            def __init__(self) -> None:
                library.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                    errors.append(one_line(msg))
                elif severity == library.ILogger.Severity.WARNING:
                    _LOG.warning("%s: %s", library.__name__, one_line(msg))

        self._name = f"{library.__name__} {library.__version__}"
        self._driver = f": it runs CUDA up to {driver_cuda}" if driver_cuda else " (or there is none)"
        self._errors = errors
        self.logger = Logger()

    def last_error(self) -> str:
        """The newest error on one line."""
        return self._errors[-1] if self._errors else "it gives no reason"

    def created(self, create: Callable[[], Any], what: str) -> Any:
        """Call a function of the library and refuse None.

        Args:
            create: returns an object, or None or raises where it cannot.
            what: to name it in the error.

        Raises:
            EngineError: if there is no object; a driver older than the library is named as such.
        """
        self._errors.clear()
        try:
            made = create()
        except (RuntimeError, TypeError) as error:  # pybind11: a constructor that gets null from its factory
            made = None
            self._errors.append(one_line(error))
        if made is None:
            if any(_DRIVER_TOO_OLD.search(error) for error in self._errors):
                raise EngineError(
                    f"the NVIDIA driver is older than {self._name} needs{self._driver}; "
                    "update the driver, install a TensorRT for an older CUDA, or choose backend openvino or onnxruntime"
                )
            reasons = "; ".join(self._errors) or "it gives no reason"
            raise EngineError(
                f"{self._name} cannot make {what}: {reasons}; update library and driver, "
                "or choose backend openvino or onnxruntime"
            )
        return made
