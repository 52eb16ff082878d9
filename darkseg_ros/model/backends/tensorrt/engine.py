"""TensorRT on an NVIDIA GPU, from the bundle's fused graph or its int8 form: only uint8 crosses between CPU and GPU."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.cache_folder import read_private, write_private
from darkseg_ros.errors import DeviceLostError, EngineError
from darkseg_ros.model.backends.protocol import EngineOutput, check_confidence
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice, load_driver
from darkseg_ros.model.backends.tensorrt.library import LibraryLog, check_supported, import_library, installed_library
from darkseg_ros.model.backends.tensorrt.plan_builder import PLAN_RECIPE, PlanOrder, build_plan
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache, PlanKey, StoredPlan
from darkseg_ros.model.bundle import BundleFile, ModelBundle

_DEFAULT_PRECISION = "fp16"
_OUTPUTS = ("class_map", "confidence")

_GRAPH_AGREEMENT_MIN = 0.999
"""Share of pixels on which a recorded run must give the class of the run that it records, and its confidence ± 1."""

_LOG = logging.getLogger(__name__)


class _PlanError(EngineError):
    """The plan is what does not fit, not driver or GPU: to build it again may help."""


@dataclass(frozen=True)
class Gpu:
    """A GPU and the TensorRT that is to run on it.

    Attributes:
        library: the module.
        device: the GPU, without a stream yet.
    """

    library: Any
    device: CudaDevice

    @classmethod
    def find(cls) -> Gpu:
        """The installed library and the first visible GPU.

        Raises:
            EngineError: if library, driver or GPU is missing, or the library does not support the GPU.
        """
        name = installed_library()
        device = CudaDevice(load_driver())  # before the library, which is slow to import and says less
        library = import_library(name)
        check_supported(name, library, device.capability)
        return cls(library, device)


def open_tensorrt(
    bundle: ModelBundle, gpu: Gpu, cache: PlanCache, *, progress: Callable[[str], None]
) -> TensorRtEngine:
    """The bundle's newest plan for this GPU, as `build_plan` made it; where there is none, fp16 for one frame.

    Args:
        bundle: a checked bundle.
        gpu: what to run on.
        cache: where plans lie.
        progress: called with a line on what happens while a plan is built.

    Raises:
        EngineError: if no plan can be built, or a new one does not load.
        BundleError: if the bundle's graph is another one.
    """
    key = next(
        (key for key in cache.newest_keys() if _runs_on(key, bundle, gpu)),
        plan_key(
            bundle,
            gpu.library,
            gpu=gpu.device.name,
            capabilities=(gpu.device.capability,),
            precision=_DEFAULT_PRECISION,
            batch=1,
        ),
    )
    return open_plan(bundle, stored_plan(bundle, key, cache, progress=progress), gpu, cache, progress=progress)


def open_plan(
    bundle: ModelBundle, plan: StoredPlan, gpu: Gpu, cache: PlanCache, *, progress: Callable[[str], None]
) -> TensorRtEngine:
    """An engine of a plan; one from the cache that does not load is built again. Arguments as for `open_tensorrt`.

    Raises:
        EngineError: if driver or GPU fail, whatever the plan; if a new plan does not load, or cannot be built.
    """
    try:
        return TensorRtEngine(bundle, plan, gpu, kernels=cache.kernels_path(plan.key))
    except _PlanError as error:
        if plan.built_now:
            raise
        # its bytes are those that were built: a driver update may do that
        progress(f"the plan from the cache does not load, it is built again: {error}")
    cache.discard(plan.key)
    plan = stored_plan(bundle, plan.key, cache, progress=progress)
    return TensorRtEngine(bundle, plan, gpu, kernels=cache.kernels_path(plan.key))


def plan_key(
    bundle: ModelBundle, library: Any, *, gpu: str, capabilities: tuple[str, ...], precision: str, batch: int
) -> PlanKey:
    """Key of a bundle's plan; see `PlanKey` for the arguments.

    Raises:
        EngineError: if the bundle has no graph for that precision.
    """
    return PlanKey(
        onnx_sha256=_graph_of(bundle, precision).sha256,
        recipe=PLAN_RECIPE,
        library=library.__name__,
        library_version=library.__version__,
        gpu=gpu,
        capabilities=tuple(sorted(capabilities)),
        network_hw=bundle.network_hw,
        precision=precision,
        batch=batch,
    )


def _graph_of(bundle: ModelBundle, precision: str) -> BundleFile:
    """The file that a plan of that precision is built from."""
    if precision != "int8":
        return bundle.fused_onnx
    if bundle.int8_onnx is None:
        raise EngineError(
            f"{bundle.directory} holds no int8 graph for TensorRT, which does not calibrate any more; export the model "
            "again (its model card says whether one was left out and why), or build with --precision fp16"
        )
    return bundle.int8_onnx


def stored_plan(bundle: ModelBundle, key: PlanKey, cache: PlanCache, *, progress: Callable[[str], None]) -> StoredPlan:
    """The plan of a key, built if need be; raises as `PlanCache.plan` and `build_plan`."""

    def build(path: Path) -> None:
        order = PlanOrder(
            library=key.library,
            onnx=str(_graph_of(bundle, key.precision).path.resolve()),
            precision=key.precision,
            batch=key.batch,
            capabilities=key.capabilities,
            plan=str(path.resolve()),
        )
        build_plan(order, progress=progress)

    return cache.plan(key, build, progress=progress)


def _runs_on(key: PlanKey, bundle: ModelBundle, gpu: Gpu) -> bool:
    if key.precision == "int8" and bundle.int8_onnx is None:
        return False
    own = plan_key(
        bundle,
        gpu.library,
        gpu=key.gpu,
        capabilities=key.capabilities,
        precision=key.precision,
        batch=key.batch,
    )
    return own == key and key.gpu in ("", gpu.device.name) and gpu.device.capability in key.capabilities


class TensorRtEngine:
    """See `darkseg_ros.model.backends.protocol.Engine`.

    Frames go up and maps come down through pinned memory on one stream. For each size of batch that occurs there is
    an execution context and, where the library allows it, a CUDA graph of the whole run: a graph is tied to the shapes
    its context had when it was recorded. The contexts take turns and share one buffer for their activations. More
    frames than the plan's batch are run in several goes.

    Args:
        bundle: that the plan was built from.
        plan: checked bytes.
        gpu: what it was built for.
        kernels: where TensorRT for RTX keeps what it compiles for the GPU, so that the next start need not; None to
            compile at each start.

    Attributes:
        plan_key: what the plan was built for.
        golden_match: how well such a plan must match the golden answer.

    Raises:
        EngineError: if the plan does not load, or has other inputs and outputs than the bundle's graph.
    """

    def __init__(self, bundle: ModelBundle, plan: StoredPlan, gpu: Gpu, *, kernels: Path | None = None) -> None:
        library, self._device = gpu.library, gpu.device
        self._library = library
        self._log = LibraryLog(library, driver_cuda=self._device.driver_cuda)
        self._pinned: dict[str, np.ndarray] = {}
        self._addresses: dict[str, int] = {}
        self._runs: dict[int, _Run] = {}
        self._engine: Any = None
        self._runtime: Any = None
        self._settings: Any = None
        self._compiled: Any = None
        self._kernels = kernels
        self._activations: int | None = None
        self.plan_key = plan.key
        self.golden_match = {
            "int8": bundle.int8_match,
            "fp16": bundle.fp16_match,
            "fp32": bundle.fused_match,
        }[plan.key.precision]
        self.batch_max, self.streams = plan.key.batch, 1
        self._class_count = len(bundle.classes)
        height, width = bundle.network_hw
        self._frame_shape = (height, width, 3)
        self.name = (
            f"{library.__name__} {library.__version__} {plan.key.precision} batch {plan.key.batch} "
            f"{self._device.name} ({self._device.capability})"
        )
        try:
            self._device.open_stream()
            self._runtime = self._log.created(lambda: library.Runtime(self._log.logger), "its runtime")
            self._load(plan)
            self._settings = self._runtime_settings()
            self._activations = self._device.allocate(max(self._activations_bytes(), 1))
            shapes = {"frame": self._frame_shape} | dict.fromkeys(_OUTPUTS, (height, width))
            for port, shape in shapes.items():
                self._pinned[port] = self._device.pinned_array((self.batch_max, *shape))
                self._addresses[port] = self._device.allocate(self._pinned[port].nbytes)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: StoredPlan) -> None:
        try:
            self._engine = self._log.created(
                lambda: self._runtime.deserialize_cuda_engine(plan.content), f"an engine of the plan {plan.key.digest}"
            )
            self._check_ports()
        except EngineError as error:
            raise _PlanError(str(error)) from error

    def _check_ports(self) -> None:
        engine = self._engine
        height, width, _ = self._frame_shape
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
        expected = {"frame": self._frame_shape} | dict.fromkeys(_OUTPUTS, (height, width))
        if found != expected:
            raise EngineError(f"the plan has inputs and outputs {found}, expected {expected}; build it again")

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        if frames.ndim != 4 or frames.shape[1:] != self._frame_shape or frames.dtype != np.uint8 or not len(frames):
            raise EngineError(
                f"TensorRT failed on frames of {frames.dtype} {frames.shape}; expected uint8 (N, *{self._frame_shape})"
            )
        self._device.enter_thread()
        try:
            goes = [self._run(frames[at : at + self.batch_max]) for at in range(0, len(frames), self.batch_max)]
        except DeviceLostError:
            raise
        except EngineError:
            self._device.raise_if_lost()  # the library says that it failed, not that every later call will
            raise
        class_maps, confidences = zip(*goes, strict=True)
        output = EngineOutput(np.concatenate(class_maps), np.concatenate(confidences))
        check_confidence(output.confidence, self._class_count)
        return output

    def _run(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(frames)
        np.copyto(self._pinned["frame"][:count], frames)
        run = self._runs.get(count)
        if run is None:
            self._runs[count] = _Run(self, count)
            self._keep_kernels()
        else:
            run()
        return self.answers(count)

    def frames(self, count: int) -> np.ndarray:
        """The memory that the next `count` frames are uploaded from."""
        return self._pinned["frame"][:count]

    def answers(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the last answer: the next run overwrites the pinned memory, and callers keep the maps."""
        return self._pinned["class_map"][:count].copy(), self._pinned["confidence"][:count].copy()

    def _runtime_settings(self) -> Any:
        """What TensorRT for RTX makes contexts with; None where the library knows no such settings."""
        library = self._library
        if not hasattr(library, "DynamicShapesKernelSpecializationStrategy"):
            return None
        settings = self._engine.create_runtime_config()
        # compiled now, not between two frames later
        settings.dynamic_shapes_kernel_specialization_strategy = library.DynamicShapesKernelSpecializationStrategy.EAGER
        settings.set_execution_context_allocation_strategy(library.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._kernels is not None:
            self._compiled = settings.create_runtime_cache()
            with contextlib.suppress(OSError):  # none yet
                self._compiled.deserialize(read_private(self._kernels))  # the library ignores what does not fit
            settings.set_runtime_cache(self._compiled)
        return settings

    def _keep_kernels(self) -> None:
        if self._compiled is None or self._kernels is None:
            return
        try:
            write_private(self._kernels, bytes(self._compiled.serialize()))
        except OSError as error:
            _LOG.warning("the next start compiles again: %s cannot be written (%s)", self._kernels, error.strerror)

    def _activations_bytes(self) -> int:
        size = getattr(self._engine, "device_memory_size_v2", None)  # from TensorRT 10.1 on
        return int(self._engine.device_memory_size if size is None else size)

    def new_context(self, count: int) -> Any:
        """An execution context for `count` frames, with its ports tied to this engine's memory."""
        user_managed = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._log.created(
            lambda: self._engine.create_execution_context(user_managed if self._settings is None else self._settings),
            "an execution context (is the GPU's memory full?)",
        )
        if hasattr(context, "set_device_memory"):  # from TensorRT 10.1 on
            context.set_device_memory(self._activations, self._activations_bytes())
        else:
            context.device_memory = self._activations
        shaped = context.set_input_shape("frame", (count, *self._frame_shape))
        if not shaped or not all(context.set_tensor_address(port, at) for port, at in self._addresses.items()):
            raise EngineError(f"TensorRT refuses a batch of {count}: {self._log.last_error()}; build the plan again")
        return context

    def queue(self, context: Any, count: int) -> None:
        """Queue upload, network and download."""
        device = self._device
        device.queue_upload(self._addresses["frame"], self._pinned["frame"][:count])
        if not context.execute_async_v3(device.stream):
            raise EngineError(f"TensorRT failed on {count} frames: {self._log.last_error()}")
        for port in _OUTPUTS:
            device.queue_download(self._pinned[port][:count], self._addresses[port])

    @property
    def recorded(self) -> tuple[int, ...]:
        """Sizes of batch that have run and run as a CUDA graph."""
        return tuple(count for count, run in self._runs.items() if run.recorded)

    @property
    def device(self) -> CudaDevice:
        """The GPU with this engine's stream."""
        return self._device

    def close(self) -> None:
        # contexts before the engine, the engine before its runtime, all before the GPU's context
        device = self._device
        memory = [*self._addresses.values(), *filter(None, [self._activations])]
        releases: list[Callable[[], None]] = [
            device.enter_thread,
            *(run.close for run in self._runs.values()),
            self._forget_library,
            *(partial(device.free, address) for address in memory),
            *(partial(device.free_pinned, array) for array in self._pinned.values()),
            device.release,
        ]
        self._runs, self._addresses, self._pinned, self._activations = {}, {}, {}, None
        for release in releases:
            with contextlib.suppress(EngineError):  # one that fails must not keep the others
                release()

    def _forget_library(self) -> None:
        self._settings = self._compiled = None
        self._engine = None
        self._runtime = None


class _Run:
    """One size of batch: runs plainly once, which warms the context up, then as a CUDA graph where that proves right.

    The answer to the frames that lie ready is there when it is made.
    """

    def __init__(self, engine: TensorRtEngine, count: int) -> None:
        self._engine, self._count = engine, count
        self._context = engine.new_context(count)
        self._graph: int | None = None
        try:
            self._run_plainly()
            self._use_graph()
        except BaseException:
            self.close()
            raise

    @property
    def recorded(self) -> bool:
        """Whether it runs as a CUDA graph."""
        return self._graph is not None

    def __call__(self) -> None:
        if self._graph is None:
            self._run_plainly()
        else:
            self._engine.device.launch(self._graph)
            self._engine.device.wait()

    def _run_plainly(self) -> None:
        self._engine.queue(self._context, self._count)
        self._engine.device.wait()

    def _use_graph(self) -> None:
        """Record the run, and keep the recording if it gives the same answer.

        Between the run that is recorded and the recording's first, other frames are run: a recording that lacks the
        network would give their answer.
        """
        engine, device = self._engine, self._engine.device
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(device.stream):
            return
        frames = engine.frames(self._count)
        asked, expected = frames.copy(), engine.answers(self._count)
        graph: int | None = None
        try:
            graph = self._recorded()
            np.subtract(255, frames, out=frames)
            self._run_plainly()
            np.copyto(frames, asked)
            device.launch(graph)
            device.wait()
            if _agree(engine.answers(self._count), expected):
                self._graph, graph = graph, None
                return
            _LOG.warning("a CUDA graph of %d frames gives other answers than the run it records: not used", self._count)
        except DeviceLostError:
            raise
        except EngineError as error:
            _LOG.info("%d frames run without a CUDA graph: %s", self._count, error)
        finally:
            if graph is not None:
                device.free_graph(graph)
        np.copyto(frames, asked)
        self._run_plainly()

    def _recorded(self) -> int:
        device = self._engine.device
        device.begin_capture()
        try:
            self._engine.queue(self._context, self._count)
        except BaseException:
            with contextlib.suppress(EngineError):  # a stream left in capture runs nothing any more
                device.free_graph(device.end_capture())
            raise
        return device.end_capture()

    def close(self) -> None:
        graph, self._graph = self._graph, None
        self._context = None
        if graph is not None:
            self._engine.device.free_graph(graph)


def _agree(answer: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> bool:
    (class_map, confidence), (expected_map, expected_confidence) = answer, expected
    close = np.abs(confidence.astype(np.int16) - expected_confidence) <= 1
    return bool(min(np.mean(class_map == expected_map), np.mean(close)) >= _GRAPH_AGREEMENT_MIN)
