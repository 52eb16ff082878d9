"""`darkseg evaluate --images`: class maps of a folder of images against a folder of label maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.disturbances import disturbed
from darkseg_ros.evaluation.drive import SHOWN_FRAMES, EvaluationResult, ShownFrame, WorstFrames
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE, Evaluation, mean_iou_of_present
from darkseg_ros.evaluation.trust import trust_figures
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.in_order import in_order
from darkseg_ros.model.segmenter import Segmentation, Segmenter


@dataclass(frozen=True)
class _Question:
    """An image as the network gets it, and what is known of its pixels.

    Attributes:
        index: of the pair.
        pair: the files.
        bgr: (H, W, 3) uint8.
        label_map: (H, W) uint8, IGNORE_INDEX on objects of no class.
        unknown: (H, W) bool, objects of no class.
    """

    index: int
    pair: LabelledImage
    bgr: np.ndarray
    label_map: np.ndarray
    unknown: np.ndarray


def evaluate_files(
    segmenter: Segmenter,
    pairs: Sequence[LabelledImage],
    *,
    uiou_min_confidence: float = UIOU_MIN_CONFIDENCE,
    bad_frames: BadFrames | None = None,
    disturbance: str | None = None,
) -> EvaluationResult:
    """Segment every image and compare it with its label map.

    Args:
        segmenter: runs on every image.
        pairs: images and their label maps.
        uiou_min_confidence: see `evaluation.Invalidation`.
        bad_frames: gets pairs that cannot be decoded or differ in size; None raises at the first.
        disturbance: a name of `DISTURBANCES`, drawn onto every image; None leaves them as they are. Pixels of objects
            of no class count in `Metrics.unknown` alone.

    Raises:
        InputError: if no pair has a labelled pixel.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    classes = segmenter.bundle.classes
    evaluation = Evaluation(classes, uiou_min_confidence=uiou_min_confidence)
    worst = WorstFrames(SHOWN_FRAMES)
    known_levels, unknown_levels = np.zeros((2, 256), np.int64)

    def answered(question: _Question) -> Segmentation:
        return segmenter(question.bgr)

    questions = _questions(pairs, disturbance, bad_frames)
    with in_order(answered, questions, threads=segmenter.engine.streams) as answers:
        for question, segmentation in answers:
            label_map, class_map, confidence = question.label_map, segmentation.class_map, segmentation.confidence
            known_levels += np.bincount(confidence[label_map != IGNORE_INDEX], minlength=256)
            unknown_levels += np.bincount(confidence[question.unknown], minlength=256)
            confusion = evaluation.add(label_map, class_map, confidence)
            frame = ShownFrame(
                name=question.pair.image.name,
                miou_present=float(mean_iou_of_present(confusion)),
                image=partial(_shown, question.pair, disturbance, question.index),
                label_map=label_map,
                class_map=class_map,
            )
            worst.offer(question.index, frame)
    try:
        metrics = replace(evaluation.metrics(), unknown=trust_figures(known_levels, unknown_levels))
        return EvaluationResult(metrics, evaluation.confusion, worst.worst_first(), classes)
    except ValueError as error:
        raise InputError(f"{pairs[0].label} and all others: {error}") from error


def _questions(pairs: Sequence[LabelledImage], disturbance: str | None, bad_frames: BadFrames) -> Iterator[_Question]:
    # disable=None shows the bar on a terminal only
    for index, pair in enumerate(tqdm(pairs, desc="evaluating", unit="image", disable=None)):
        try:
            bgr, label_map = read_labelled(pair)
        except InputError as error:
            bad_frames.skip(str(error))
            continue
        bgr, unknown = disturbed(bgr, disturbance, index)
        yield _Question(index, pair, bgr, np.where(unknown, IGNORE_INDEX, label_map).astype(np.uint8), unknown)


def _shown(pair: LabelledImage, disturbance: str | None, index: int) -> np.ndarray:
    return disturbed(read_image(pair.image), disturbance, index)[0]
