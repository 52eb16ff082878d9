from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from darkseg_ros.classes import CITYSCAPES
from training.adaptation.object_warp import ObjectWarpedSamples, magnify_objects, stretched

CAR = CITYSCAPES.train_ids["car"]


def street() -> tuple[Tensor, Tensor]:
    labels = torch.zeros(64, 64, dtype=torch.int64)
    labels[40:48, 10:18] = CAR
    return labels[None].repeat(3, 1, 1).float(), labels


def test_objects_grow_and_image_and_labels_stay_together() -> None:
    image, labels = street()
    warped, warped_labels = magnify_objects(image, labels)
    assert (warped_labels == CAR).sum() > 1.5 * (labels == CAR).sum()
    assert set(warped_labels.unique().tolist()) == {0, CAR}
    inside = (warped[0] - warped_labels).abs() < 1
    assert inside.float().mean() > 0.95


def test_a_street_without_objects_stays_as_it_is() -> None:
    image, labels = torch.randn(3, 32, 32), torch.zeros(32, 32, dtype=torch.int64)
    warped, warped_labels = magnify_objects(image, labels)
    assert torch.equal(warped, image)
    assert torch.equal(warped_labels, labels)


def test_the_stretch_is_a_one_to_one_map_of_the_side() -> None:
    places = stretched(np.random.default_rng(0).random(50))
    assert (np.diff(places) > 0).all()
    assert 0 < places[0] < places[-1] < 1


class Streets(Dataset[dict[str, Tensor]]):
    def __getitem__(self, position: int) -> dict[str, Tensor]:
        image, labels = street()
        return {"images": image, "labels": labels}


def test_a_share_of_the_samples_is_warped_by_position_alone() -> None:
    samples = ObjectWarpedSamples(Streets(), share=0.5, seed=4)
    plain = street()[1]
    warped = [not torch.equal(samples[position]["labels"], plain) for position in range(60)]
    assert 15 < sum(warped) < 45
    assert warped == [not torch.equal(samples[position]["labels"], plain) for position in range(60)]
    assert torch.equal(ObjectWarpedSamples(Streets(), share=0.0, seed=4)[0]["labels"], plain)
