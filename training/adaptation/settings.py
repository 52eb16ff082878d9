"""The settings of `training.adapt_segmenter`."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.segmenter_config import ImagesConfig, SegmenterRunConfig


@dataclass
class AdaptationData(ImagesConfig):
    """Where the images of the adaptation are.

    Attributes:
        boxes: of `training.detect_objects` for the images of `night`, the second opinion; null does without.
        answers: of `training.answer_images` for them, those of larger teachers; null leaves the average alone.
    """

    boxes: str | None = None
    answers: str | None = None


@dataclass
class NightConfig:
    """How the student learns from the unlabelled night images.

    Attributes:
        batch_size: night images a step, over all processes.
        weight: of their loss.
        pixel_min: confidence that an answer needs; 0 learns all of them.
        by_image: each image counts by the share of its pixels that reach `pixel_min`.
        answers_weight: of `data.answers` against the average's own answer, 0…1.
        share_adjustment: of the answers, see `training.adaptation.pseudo_labels.adjust_to_shares`.
        mix_share: of the steps in which labelled objects are pasted onto the night images (ClassMix).
        masked_share: of the night images that the student sees with blocks blacked out (masked-image consistency).
        masked_ratio: of the blocks in such an image.
        masked_block_px: side of a block.
        box_weight: of the second opinion where it names a class or vetoes one, 0…1.
        box_score_min: of the boxes that are believed.
    """

    batch_size: int = 6
    weight: float = 1.0
    pixel_min: float = 0.0
    by_image: bool = False
    answers_weight: float = 0.5
    share_adjustment: float = 0.0
    mix_share: float = 0.5
    masked_share: float = 0.0
    masked_ratio: float = 0.5
    masked_block_px: int = 32
    box_weight: float = 0.7
    box_score_min: float = 0.4


@dataclass
class StrongAugmentation:
    """How far the student's view differs from the teacher's.

    Attributes:
        jitter: of the colours, as `Augmentation.jitter`.
        blur_share: of the images blurred.
        blur_sigma_max: strongest blur, pixels.
        noise_max: strongest noise, standard deviation in grey levels.
    """

    jitter: float = 0.4
    blur_share: float = 0.3
    blur_sigma_max: float = 1.2
    noise_max: float = 8.0


@dataclass
class AdaptationConfig(SegmenterRunConfig):
    """Everything that one run of the adaptation depends on.

    Attributes:
        object_warp_share: of the labelled images in which objects are magnified.
        anchor_weight: of the distance to the features that the encoder starts with; 0 switches it off.
        strong: the student's view of the night images.
    """

    batch_size: int = 6
    rare_class_share: float = 0.3
    object_warp_share: float = 0.0
    anchor_weight: float = 0.0
    data: AdaptationData = field(default_factory=AdaptationData)
    strong: StrongAugmentation = field(default_factory=StrongAugmentation)
    night: NightConfig = field(default_factory=NightConfig)
