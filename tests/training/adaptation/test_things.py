from __future__ import annotations

from darkseg_ros.classes import CITYSCAPES
from tests.bundles import CAMVID
from training.adaptation.things import things_of


def test_humans_vehicles_lights_and_signs_are_things() -> None:
    names = {CITYSCAPES.names[train_id] for train_id in things_of(CITYSCAPES)}
    assert names == {"traffic light", "traffic sign", "person", "rider", "car", "truck", "bus", "train",
                     "motorcycle", "bicycle"}  # fmt: skip
    assert {CAMVID.names[train_id] for train_id in things_of(CAMVID)} >= {"car"}
