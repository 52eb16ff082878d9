"""Features of images by a network from a file, such as the Inception network that FID is defined on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import sha256_of

INCEPTION_INPUT_PX = 299


@dataclass(frozen=True)
class FeatureExtractor:
    """A network from a file.

    Attributes:
        path: the file.
        sha256: of its content, in hexadecimal.
        input_px: side of the square that images are resized to.
        network: (N, 3, S, S) float32 of `extractor_input` → (N, D) float32.
    """

    path: Path
    sha256: str
    input_px: int
    network: Callable[[np.ndarray], np.ndarray]


def load_onnx_extractor(path: Path, *, input_px: int | None = None) -> FeatureExtractor:
    """Load a feature extractor from an ONNX file; it runs on the CPU.

    Args:
        path: a network of one input, (N, 3, S, S) float32 as of `extractor_input`, any N, and one output, (N, D) or
            (N, D, 1, 1).
        input_px: S; what the file says unless given, else that of Inception.

    Raises:
        InputError: if the file is missing or cannot be loaded.
    """
    import onnxruntime

    if not path.is_file():
        raise InputError(
            f"there is no feature extractor {path}; `python -m training.fetch_inception --out {path}` makes the "
            "Inception network of FID, or give another ONNX file"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions share no base class
        raise InputError(
            f"{path} is no ONNX network ({last_line(error)}); "
            "`python -m training.fetch_inception --out inception.onnx` makes the one of FID"
        ) from error
    port = session.get_inputs()[0]
    side = port.shape[-1] if port.shape and isinstance(port.shape[-1], int) else INCEPTION_INPUT_PX
    return FeatureExtractor(
        path,
        sha256_of(path),
        side if input_px is None else input_px,
        lambda images: np.asarray(session.run(None, {port.name: images})[0]),
    )


def extractor_input(bgr: np.ndarray, input_px: int) -> np.ndarray:
    """An image as feature extractors see it.

    Args:
        bgr: (H, W, 3) uint8.
        input_px: S; the image is squeezed to a square, without regard to its shape.

    Returns:
        (3, S, S) float32 RGB, bilinearly resized, (value - 128) / 128: -1…0.992.

    Source: input of the Inception network that FID is defined on: Heusel et al., NeurIPS 2017 (arXiv 1706.08500).
    Differs: pixel centres are aligned as OpenCV and PyTorch do, not corners as that TensorFlow graph did; an FID is
        comparable within this project.
    """
    resized = cv2.resize(bgr.astype(np.float32), (input_px, input_px), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(((resized - 128) / 128)[:, :, ::-1].transpose(2, 0, 1))


def features_of(images: Sequence[np.ndarray], extractor: FeatureExtractor, *, names: Sequence[str]) -> np.ndarray:
    """Features of a few images.

    Args:
        images: of `extractor_input`.
        extractor: takes them all at once.
        names: of the images, for errors.

    Returns:
        (N, D) float32.

    Raises:
        InputError: if the extractor does not take them, or gives something else than finite features.
    """
    stacked = np.stack(images)
    try:
        answer = extractor.network(stacked)
    except Exception as error:  # TorchScript and ONNX Runtime share no class of exceptions
        raise InputError(
            f"{extractor.path} does not take images of {stacked.shape} float32 ({last_line(error)}); set --input-px to "
            "its input size, and export it with a free number of images"
        ) from error
    features = answer.reshape(answer.shape[0], -1) if answer.ndim == 4 and answer.shape[2:] == (1, 1) else answer
    if features.ndim != 2 or len(features) != len(images):
        raise InputError(
            f"{extractor.path} gives {answer.shape} for {len(images)} images; expected ({len(images)}, D) features"
        )
    unfit = ~np.isfinite(features).all(1)
    if unfit.any():
        raise InputError(f"{extractor.path} gives features that are not finite for {names[int(unfit.argmax())]}")
    return features.astype(np.float32)


def last_line(error: Exception) -> str:
    """What a library says at the end of a message of many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
