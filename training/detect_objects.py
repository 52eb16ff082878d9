"""Find objects in unlabelled night images with a detector of COCO's classes: the second opinion of the adaptation.

    python -m training.detect_objects --detector $DARKSEG_DATA/weights/yolox_nano.onnx --images FOLDER --out boxes.json

The detector is a YOLOX of before version 0.1.1 as ONNX: ImageNet-normalised RGB, padded below and right, raw boxes out.
Each image is seen whole and in two halves, in which far objects are larger; dark ones are brightened.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from training.adaptation.second_opinion import TRAIN_ID_OF_COCO, Box, write_boxes
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from training.runs.results import one_line_errors

SCORE_MIN = 0.15
"""Weaker boxes are not written."""

_EXPOSURE = Exposure(target_mean=45, gamma_min=0.4)  # brighter ones lost boxes on a look at six images
_WIDTH_MAX = 640
_HALF_SHARE = 0.56  # of the width: the halves overlap
_STRIDES = (8, 16, 32)
_PADDING = 114
_OVERLAP_MAX, _OVERLAP_MAX_BETWEEN_VIEWS = 0.5, 0.55  # intersection over union above which the weaker box is dropped


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, required=True, help="ONNX file")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of boxes")
    parsed = parser.parse_args(arguments)
    with one_line_errors("detect_objects"):
        detector = Detector(parsed.detector)
        paths = tqdm(image_files(parsed.images), desc="detect", unit="image", mininterval=10)
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        write_boxes(parsed.out, {path.stem: detector(read_image(path)) for path in paths})


class Detector:
    """A YOLOX graph: an image in, boxes of classes that Cityscapes has too out.

    Args:
        path: ONNX, ``(1, 3, S, S)`` float → ``(1, (S/8)² + (S/16)² + (S/32)², 5 + 80)``.

    Raises:
        InputError: if the file is missing or no such graph.

    Source: Ge et al., "YOLOX" (arXiv 2107.08430); the decoding is that of its ONNX Runtime demo.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own
            raise InputError(f"{path} is no detector ({error}); take yolox_nano.onnx") from error
        (graph_input,) = self._session.get_inputs()
        self._name, side = graph_input.name, graph_input.shape[-1]
        if not isinstance(side, int) or side % _STRIDES[-1]:
            raise InputError(f"{path} takes {graph_input.shape}; expected a detector of (1, 3, S, S)")
        self._side = side
        corners = [np.stack(np.meshgrid(range(side // s), range(side // s)), -1).reshape(-1, 2) for s in _STRIDES]
        self._corners = np.concatenate(corners)
        self._strides = np.concatenate([np.full((len(c), 1), s) for c, s in zip(corners, _STRIDES, strict=True)])

    def __call__(self, bgr: np.ndarray) -> list[Box]:
        """Boxes of an (H, W, 3) uint8 BGR image, the surest first."""
        height, width = bgr.shape[:2]
        if width > _WIDTH_MAX:
            bgr = cv2.resize(bgr, (_WIDTH_MAX, round(height * _WIDTH_MAX / width)), interpolation=cv2.INTER_AREA)
            height, width = bgr.shape[:2]
        bgr = np.ascontiguousarray(bgr).copy()
        normalise_exposure(bgr, _EXPOSURE)
        half = min(height, round(width * _HALF_SHARE))
        found = [self._detect(bgr)]
        for left in (0, width - half):
            corners, classes, scores = self._detect(np.ascontiguousarray(bgr[height - half :, left : left + half]))
            found.append((corners + (left, height - half, left, height - half), classes, scores))
        corners, classes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        shared = np.isin(classes, list(TRAIN_ID_OF_COCO))
        corners, classes, scores = corners[shared], classes[shared], scores[shared]
        kept = _strongest(corners, scores, _OVERLAP_MAX_BETWEEN_VIEWS)
        return [
            Box(
                tuple(float(side) for side in corners[i] / (width, height, width, height)),  # type: ignore[arg-type]
                TRAIN_ID_OF_COCO[int(classes[i])],
                float(scores[i]),
            )
            for i in kept
        ]

    def _detect(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Corners in pixels (N, 4), COCO classes (N,) and scores (N,) of one view."""
        height, width = bgr.shape[:2]
        ratio = self._side / max(height, width)
        resized = cv2.resize(bgr, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_LINEAR)
        padded = np.full((self._side, self._side, 3), _PADDING, np.uint8)
        padded[: resized.shape[0], : resized.shape[1]] = resized
        pixels = (padded[:, :, ::-1].astype(np.float32) / 255 - IMAGENET_MEAN_RGB) / IMAGENET_STD_RGB
        (answers,) = self._session.run(None, {self._name: pixels.transpose(2, 0, 1)[None].astype(np.float32)})
        answer = np.asarray(answers)[0]
        centre, size = (answer[:, :2] + self._corners) * self._strides, np.exp(answer[:, 2:4]) * self._strides
        by_class = answer[:, 4:5] * answer[:, 5:]
        classes, scores = by_class.argmax(1), by_class.max(1)
        sure = scores > SCORE_MIN
        corners = np.concatenate([centre - size / 2, centre + size / 2], 1)[sure] / ratio
        classes, scores = classes[sure], scores[sure]
        # of each class alone: a rider stands in the box of the bicycle
        kept = _strongest(corners + (classes * 4.0 * self._side / ratio)[:, None], scores, _OVERLAP_MAX)
        return corners[kept], classes[kept], scores[kept]


def _strongest(corners: np.ndarray, scores: np.ndarray, overlap_max: float) -> np.ndarray:
    """Indices of the boxes that no stronger one covers, the surest first."""
    if not len(corners):
        return np.zeros(0, int)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    return np.asarray(cv2.dnn.NMSBoxes(boxes, scores.tolist(), SCORE_MIN, overlap_max), int).ravel()


if __name__ == "__main__":
    main()
