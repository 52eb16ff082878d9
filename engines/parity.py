"""How far the ways to run a bundle agree with each other on real frames: the engine on the vehicle, and in torch.

Answers are compared at the camera's geometry, as the vehicle publishes them: a frame is stretched to the network's
size, both maps are brought back, and there they are held against the reference's and against the label map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import openvino
import torch
from tqdm import tqdm

from darkseg_ros.classes import ClassTable
from darkseg_ros.errors import EngineError, InputError
from darkseg_ros.evaluation.metrics import confusion_matrix, mean_iou_of_present, paired_interval
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.model.backends import Engine, EngineOutput, open_engine
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.openvino import openvino_core
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_plan, plan_key, stored_plan
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache
from darkseg_ros.model.bundle import ANY_MATCH, ModelBundle, load_bundle
from darkseg_ros.model.segmenter import Segmentation, Segmenter
from engines.fused_graph import FusedGraph, LogitsGraph
from training.adaptation.teacher import load_teacher

TORCH = "torch"
FUSED_ORT = "onnxruntime fp32"
FUSED_OPENVINO = "openvino fp32"
CPU_INT8 = "openvino int8"
SYMMETRIC_INT8_ORT = "onnxruntime int8"

Precision = Literal["fp32", "fp16", "int8"]

PRECISIONS: dict[str, Precision] = {
    TORCH: "fp32",
    FUSED_ORT: "fp32",
    FUSED_OPENVINO: "fp32",
    CPU_INT8: "int8",
    SYMMETRIC_INT8_ORT: "int8",
    "tensorrt fp32": "fp32",
    "tensorrt fp16": "fp16",
    "tensorrt int8": "int8",
}
"""Precision of every backend that can be compared: the checkpoint's network in torch, the bundle's fused graph in three
libraries, its CPU graph with this package's finish, and the symmetric int8 graph that TensorRT's int8 plans are of."""

CPU_BACKENDS = (TORCH, FUSED_ORT, FUSED_OPENVINO, CPU_INT8, SYMMETRIC_INT8_ORT)

INT8_IMAGES_MIN = 400
"""On fewer images the mIoU of int8 is shown, not judged. The rule was made after the export had refused the shipped
bundle for 100 of Cityscapes' validation images: there OpenVINO's int8 lost 0.0056 (95 % interval 0.0003 to 0.0101),
while another hundred put its change at +0.0005 and all 500 at −0.0008, ±0.002. Intervals of ±0.005 are as wide as the
limit, and so few images skew them, since a rare class that a handful of them hold counts as much as the road. 400 make
it about half as wide as the limit. On 17 night images it was ±0.011. What int8 may cost is judged by the export, on all
day validation images however many there are."""


@dataclass(frozen=True)
class Limits:
    """What a backend must keep to on each set of images.

    Attributes:
        agreement_min: share of the pixels with the reference's class.
        confidence_error_max: mean over the pixels of the confidence's absolute error.
        miou_loss_max: mIoU below the reference's. A gain is no fault; one that comes of another graph shows in the
            agreement.
    """

    agreement_min: float
    confidence_error_max: float
    miou_loss_max: float


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(agreement_min=0.999, confidence_error_max=1 / 255, miou_loss_max=0.001),
    "fp16": Limits(agreement_min=0.99, confidence_error_max=0.01, miou_loss_max=0.001),
    "int8": Limits(agreement_min=0.85, confidence_error_max=0.1, miou_loss_max=0.005),
}
"""What rounding explains; int8's first two are set by the night, where it changes most. Measured with the shipped
bundle on 2026-11-22, on 500 day and 17 night images: fp32 agreed on 0.999999 of the pixels, fp16 (TensorRT's graph, in
ONNX Runtime, 100 day images) on 0.9993 and 0.9971, int8 on 0.983 and 0.912, with mean errors of the confidence of at
most 0.000, 0.002 and 0.052. The loss of int8 is the one that the export allows."""


@dataclass(frozen=True)
class BackendParity:
    """How one backend's answers to a set of images compare with the reference's.

    Attributes:
        backend: a key of `PRECISIONS`.
        engine: its own name, with the library's version.
        image_set: name of the set.
        images: how many it has.
        agreement: share of the pixels with the reference's class.
        confidence_error_mean: mean over the pixels of |confidence − the reference's|, confidences within 0…1.
        confidence_error_max: the largest of them; where the reference hesitates between two classes it may be large.
        miou: mean IoU over the classes that the label maps hold: the mean over predicted classes too would jump
            by 1/19 with one pixel of a class that does not occur.
        miou_change: less the reference's.
        miou_change_ci95: 95 % interval of the change over the choice of images, both resampled alike.
    """

    backend: str
    engine: str
    image_set: str
    images: int
    agreement: float
    confidence_error_mean: float
    confidence_error_max: float
    miou: float
    miou_change: float
    miou_change_ci95: tuple[float, float]


@dataclass(frozen=True)
class SkippedBackend:
    """A backend that was asked for and cannot run here, and why."""

    backend: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of a bundle.

    Attributes:
        bundle: its name.
        fused_sha256: of its fused graph.
        reference: the backend that the others are compared with.
        compared: one entry a set and backend, the reference's own among them.
        skipped: what could not be compared.
    """

    bundle: str
    fused_sha256: str
    reference: str
    compared: tuple[BackendParity, ...]
    skipped: tuple[SkippedBackend, ...]

    def table(self) -> str:
        """The figures as Markdown, with what was left out below."""
        lines = [
            "| set | images | backend | engine | same class | confidence error, mean | max | mIoU | change | 95 % |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.compared:
            start = f"| {row.image_set} | {row.images} | {row.backend} | {row.engine} "
            if row.backend == self.reference:
                lines.append(f"{start}| reference | | | {row.miou:.4f} | | |")
                continue
            low, high = row.miou_change_ci95
            lines.append(
                f"{start}| {row.agreement:.4%} | {row.confidence_error_mean:.4f} | {row.confidence_error_max:.3f} "
                f"| {row.miou:.4f} | {row.miou_change:+.4f} | {low:+.4f}…{high:+.4f} |"
            )
        if not all(map(_miou_is_judged, self.compared)):
            lines.append(
                f"\nnot judged: the mIoU of int8 on fewer than {INT8_IMAGES_MIN} images, where chance moves it by as "
                f"much as the {LIMITS['int8'].miou_loss_max:g} that it may lose"
            )
        for reason in dict.fromkeys(each.reason for each in self.skipped):
            backends = ", ".join(each.backend for each in self.skipped if each.reason == reason)
            lines.append(f"\nnot compared: {backends}: {reason}")
        return "\n".join(lines)

    def failures(self) -> list[str]:
        """A line for each of `LIMITS` that a backend misses; empty where all agree."""
        return [line for row in self.compared for line in _misses(row, self.reference)]


def _miou_is_judged(row: BackendParity) -> bool:
    return PRECISIONS[row.backend] != "int8" or row.images >= INT8_IMAGES_MIN


def _misses(row: BackendParity, reference: str) -> Iterator[str]:
    limits = LIMITS[PRECISIONS[row.backend]]
    where = f"{row.backend} on {row.images} images of the set {row.image_set}"
    if row.agreement < limits.agreement_min:
        yield (
            f"{where} gives the class of {reference} on {row.agreement:.3%} of the pixels, expected at least "
            f"{limits.agreement_min:.1%}; checkpoint and graphs are not of one network, or the library computes "
            "wrongly: export the model again, or update the library"
        )
    if row.confidence_error_mean > limits.confidence_error_max:
        yield (
            f"{where} has a mean confidence error of {row.confidence_error_mean:.4f} against {reference}, expected at "
            f"most {limits.confidence_error_max:.4f}; the temperature is not the one exported: export the model again"
        )
    if _miou_is_judged(row) and row.miou_change < -limits.miou_loss_max:
        yield (
            f"{where} loses {-row.miou_change:.4f} mIoU against {reference}, expected at most {limits.miou_loss_max}; "
            "export the model again, for int8 with more calibration images"
        )


def compare(
    bundle_directory: Path,
    checkpoint: Path | None,
    images: Mapping[str, Sequence[LabelledImage]],
    *,
    backends: Sequence[str] = tuple(PRECISIONS),
) -> ParityReport:
    """Run a bundle in several ways on the same images.

    The golden answer is not asked for here: the images judge. A backend that is there and fails is an error; one whose
    GPU, graph or checkpoint is missing is left out, with the reason.

    Args:
        bundle_directory: a bundle of `engines.export`.
        checkpoint: that it was exported from; None compares with the fused graph in ONNX Runtime, not with torch.
        images: name of the set → its labelled images, such as {"day": […], "night": […]}; label maps of train ids.
        backends: keys of `PRECISIONS`; the reference is added where it is missing. `CPU_BACKENDS` leaves TensorRT out,
            which builds a plan for each precision where a GPU is.

    Returns:
        For each set, in its order, one entry a backend; `ParityReport.failures` judges them.

    Raises:
        InputError: if there is no image or no labelled pixel in a set, an image cannot be read, the checkpoint is none,
            or a backend is unknown.
        BundleError: if the bundle is none.
        EngineError: if a backend fails.
    """
    if unknown := set(backends) - PRECISIONS.keys():
        raise InputError(f"there are no backends {', '.join(sorted(unknown))}; known are {', '.join(PRECISIONS)}")
    for name, pairs in images.items():
        if not pairs:
            raise InputError(f"the set {name} has no image; name at least one")
    # how well a graph fits is what is measured; a golden answer that refuses it would hide by how much
    bundle = dataclasses.replace(load_bundle(bundle_directory), fused_match=ANY_MATCH, cpu_match=ANY_MATCH)
    reference = FUSED_ORT if checkpoint is None else TORCH
    asked = dict.fromkeys([reference, *backends])  # each once, in their order
    skipped: list[SkippedBackend] = []
    segmenters: dict[str, Segmenter] = {}
    with ExitStack() as stack:
        for backend in asked:
            reason = _reason_to_skip(backend, bundle, checkpoint)
            if reason is None:
                segmenter = Segmenter(bundle, _open(backend, bundle, checkpoint))
                segmenters[backend] = stack.enter_context(closing(segmenter))
            else:
                skipped.append(SkippedBackend(backend, reason))
        compared = [row for name, pairs in images.items() for row in _compare_set(name, pairs, segmenters, reference)]
    return ParityReport(
        bundle=bundle.name,
        fused_sha256=bundle.fused_onnx.sha256,
        reference=reference,
        compared=tuple(compared),
        skipped=tuple(skipped),
    )


def _reason_to_skip(backend: str, bundle: ModelBundle, checkpoint: Path | None) -> str | None:
    if backend == TORCH and checkpoint is None:
        return "no checkpoint was named"
    if backend in (SYMMETRIC_INT8_ORT, "tensorrt int8") and bundle.int8_onnx is None:
        return "the bundle holds no symmetric int8 graph; its model card says whether the export left it out"
    if backend.startswith("tensorrt"):
        try:
            Gpu.find()
        except EngineError as error:
            return str(error)
    return None


def _open(backend: str, bundle: ModelBundle, checkpoint: Path | None) -> Engine:
    if backend == TORCH:
        assert checkpoint is not None
        return _TorchEngine(bundle, checkpoint)
    if backend == FUSED_ORT:
        return open_engine(bundle, backend="onnxruntime")
    if backend == FUSED_OPENVINO:
        return _FusedOpenVino(bundle)
    if backend == CPU_INT8:
        return open_engine(bundle, backend="openvino")
    if backend == SYMMETRIC_INT8_ORT:
        assert bundle.int8_onnx is not None
        engine = OnnxRuntimeEngine(dataclasses.replace(bundle, fused_onnx=bundle.int8_onnx))
        engine.name = f"onnxruntime {onnxruntime.__version__} int8 CPU"  # the class takes its graph for the float one
        return engine
    gpu = Gpu.find()  # one for each engine, whose stream it holds
    key = plan_key(
        bundle,
        gpu.library,
        gpu=gpu.device.name,
        capabilities=(gpu.device.capability,),
        precision=PRECISIONS[backend],
        batch=1,
    )
    cache = PlanCache()
    return open_plan(bundle, stored_plan(bundle, key, cache, progress=print), gpu, cache, progress=print)


class _TorchEngine:
    """The checkpoint's averaged network, finished in torch."""

    batch_max = streams = 1

    def __init__(self, bundle: ModelBundle, checkpoint: Path) -> None:
        network, _ = load_teacher(checkpoint)
        self._graph = FusedGraph(LogitsGraph(network), temperature=bundle.temperature).eval()
        self.name = f"torch {torch.__version__} fp32 CPU"

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> EngineOutput:
        class_map, confidence = self._graph(torch.from_numpy(frames))
        return EngineOutput(class_map.numpy(), confidence.numpy())

    def close(self) -> None:
        del self._graph


class _FusedOpenVino:
    """The fused graph in OpenVINO: no node runs it, it tells the library's error from that of int8 and our finish."""

    batch_max = streams = 1

    def __init__(self, bundle: ModelBundle) -> None:
        # f32: else OpenVINO picks bf16 on some CPUs
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        core = openvino_core()
        try:
            compiled = core.compile_model(core.read_model(str(bundle.fused_onnx.path)), "CPU", settings)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot load {bundle.fused_onnx.path}: {error}; update OpenVINO or export the model again"
            ) from error
        self._request: Any = compiled.create_infer_request()
        self.name = f"openvino {openvino.__version__.split('-')[0]} fp32 CPU"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        self._request.infer({"frame": frames})
        # copies: the next frame is answered into the same memory
        return EngineOutput(*(self._request.get_tensor(name).data.copy() for name in ("class_map", "confidence")))

    def close(self) -> None:
        self._request = None


class _Tally:
    """Sums one backend's answers to a set."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._same = self._pixels = 0
        self._error_sum = self._error_max = 0
        self.confusions: list[np.ndarray] = []

    def add(
        self,
        answer: Segmentation,
        reference: Segmentation,
        label_map: np.ndarray,
    ) -> None:
        """Add an image, whose label map is (H, W) uint8 train ids."""
        errors = np.abs(answer.confidence.astype(np.int16) - reference.confidence)
        self._same += int(np.count_nonzero(answer.class_map == reference.class_map))
        self._pixels += answer.class_map.size
        self._error_sum += int(errors.sum(dtype=np.int64))
        self._error_max = max(self._error_max, int(errors.max()))
        self.confusions.append(confusion_matrix(label_map, answer.class_map, self._classes))

    def result(self, backend: str, engine: Engine, image_set: str, reference: _Tally) -> BackendParity:
        """The figures, against those of the reference's tally."""
        miou, reference_miou = (
            float(mean_iou_of_present(np.sum(each.confusions, axis=0))) for each in (self, reference)
        )
        return BackendParity(
            backend=backend,
            engine=engine.name,
            image_set=image_set,
            images=len(self.confusions),
            agreement=self._same / self._pixels,
            confidence_error_mean=self._error_sum / self._pixels / 255,
            confidence_error_max=self._error_max / 255,
            miou=miou,
            miou_change=miou - reference_miou,
            miou_change_ci95=paired_interval(np.stack(self.confusions), np.stack(reference.confusions)),
        )


def _compare_set(
    name: str, pairs: Sequence[LabelledImage], segmenters: Mapping[str, Segmenter], reference: str
) -> Iterator[BackendParity]:
    tallies = {backend: _Tally(segmenter.bundle.classes) for backend, segmenter in segmenters.items()}
    # disable=None shows the bar on a terminal only
    for pair in tqdm(pairs, desc=f"comparing {name}", unit="image", disable=None):
        bgr, label_map = read_labelled(pair)
        answers = {backend: segmenter(bgr) for backend, segmenter in segmenters.items()}
        for backend, tally in tallies.items():
            tally.add(answers[backend], answers[reference], label_map)
    if not np.any(tallies[reference].confusions):
        raise InputError(f"no pixel of the set {name} has ground truth (all are 255); check the label maps")
    for backend, tally in tallies.items():
        yield tally.result(backend, segmenters[backend].engine, name, tallies[reference])
