"""Objects seen larger: labelled images are stretched where their objects are and squeezed elsewhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from darkseg_ros.classes import CITYSCAPES, ClassTable
from training.adaptation.things import things_of
from training.data.random_streams import Stream, generator

_GAIN = 3.0  # an object's densest column is drawn up to this much wider than an empty one
_SMOOTHING_SHARE = 0.08  # of the side: how softly the stretch begins


class ObjectWarpedSamples(Dataset[dict[str, Tensor]]):
    """Labelled samples, a share of them warped by `magnify_objects`.

    Args:
        samples: whose items hold ``images`` and ``labels``, see `training.data.pairs.LabelledSamples`.
        share: of the samples that are warped.
        seed: of the run.
        classes: of the labels.
    """

    def __init__(
        self, samples: Dataset[dict[str, Tensor]], *, share: float, seed: int, classes: ClassTable = CITYSCAPES
    ) -> None:
        self._samples, self._share, self._seed, self._classes = samples, share, seed, classes

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        item = self._samples[position]
        if generator(self._seed, Stream.OBJECT_WARP, position).random() < self._share:
            item["images"], item["labels"] = magnify_objects(item["images"], item["labels"], self._classes)
        return item


def magnify_objects(image: Tensor, labels: Tensor, classes: ClassTable = CITYSCAPES) -> tuple[Tensor, Tensor]:
    """Stretch rows and columns by the share of objects in them.

    Args:
        image: (3, S, S) float.
        labels: (S, S) int64 train ids.
        classes: of the labels.

    Returns:
        Image and labels of the same shapes; as they were where there is no object.

    Source: Zheng et al., "Instance-Warp: Saliency Guided Image Warping for Unsupervised Domain Adaptation", WACV 2025
        (arXiv 2403.12712), section 3.2.
    Differs: the saliency is the share of object pixels in a row or column, not a kernel at each box; labels are warped
        with the image in the place of features back.
    """
    things = torch.isin(labels, torch.tensor(things_of(classes))).float()
    if not things.any():
        return image, labels
    x, y = (torch.from_numpy(stretched(things.mean(axis).numpy())).float() for axis in (0, 1))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None] * 2 - 1
    warped = functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    nearest = functional.grid_sample(
        labels[None, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return warped[0], nearest[0, 0].long()


def stretched(saliency: np.ndarray) -> np.ndarray:
    """Where each of S places of the warped side lies on the original side, both in (0, 1), ascending.

    Args:
        saliency: (S,) share of object pixels, 0…1; not all 0.
    """
    side = len(saliency)
    reach = max(round(_SMOOTHING_SHARE * side), 1)
    kernel = np.hanning(2 * reach + 1)
    smooth = np.convolve(np.pad(saliency, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
    density = 1 + (_GAIN - 1) * smooth / max(smooth.max(), 1e-6)
    edges = np.concatenate([[0.0], np.cumsum(density)])
    return np.interp((np.arange(side) + 0.5) / side, edges / edges[-1], np.arange(side + 1) / side)
