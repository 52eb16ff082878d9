"""`darkseg evaluate --images`: class maps of a folder of images against a folder of label maps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.drive import SHOWN_FRAMES, EvaluationResult, ShownFrame, WorstFrames
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE, Evaluation, mean_iou_of_present
from darkseg_ros.frames.labelled import pair_files, read_labelled, train_id_format
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.segmenter import Segmenter


def evaluate_files(
    segmenter: Segmenter, *, images: Path, labels: Path, uiou_min_confidence: float = UIOU_MIN_CONFIDENCE
) -> EvaluationResult:
    """Segment every image and compare it with its label map.

    Args:
        segmenter: runs on every image.
        images: folder of images.
        labels: folder of label maps: one channel of uint8 train ids, 255 = no ground truth, in any lossless
            image format, of the size of their image.
        uiou_min_confidence: see `evaluation.Invalidation`.

    Raises:
        InputError: naming the file, if an image has no label map or the other way round, cannot be decoded,
            or is no label map of its image.
    """
    classes = segmenter.bundle.classes
    pairs = pair_files(images, labels, train_id_format(classes))
    evaluation = Evaluation(classes, uiou_min_confidence=uiou_min_confidence)
    worst = WorstFrames(SHOWN_FRAMES)
    # disable=None shows the bar on a terminal only
    for index, pair in enumerate(tqdm(pairs, desc="evaluating", unit="image", disable=None)):
        bgr, label_map = read_labelled(pair)
        segmentation = segmenter(bgr)
        confusion = evaluation.add(label_map, segmentation.class_map, segmentation.confidence)
        frame = ShownFrame(
            name=pair.image.name,
            miou_present=float(mean_iou_of_present(confusion)),
            image=partial(read_image, pair.image),
            label_map=label_map,
            class_map=segmentation.class_map,
        )
        worst.offer(index, frame)
    try:
        return EvaluationResult(evaluation.metrics(), evaluation.confusion, worst.worst_first(), classes)
    except ValueError as error:
        raise InputError(f"{labels}: {error}") from error
