"""A small data set of generated scenes, in the layout that training reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from darkseg_ros.synthetic_drive import SyntheticDrive


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source/{image,label} and validation/{image,label} by day, night_validation by night, night/ unlabelled."""
    root = tmp_path_factory.mktemp("data")
    for folder, seed, night, count in (
        ("source", 1, False, 6),
        ("validation", 2, False, 2),
        ("night_validation", 3, True, 2),
    ):
        drive = SyntheticDrive(seed=seed, size_hw=(64, 64), night=night)
        for part in ("image", "label"):
            (root / folder / part).mkdir(parents=True)
        for index in range(count):
            scene = drive.frame(index * 10)
            cv2.imwrite(str(root / folder / "image" / f"{index}.png"), scene.bgr)
            cv2.imwrite(str(root / folder / "label" / f"{index}.png"), scene.label_map)
    for part in ("night", "pseudo_labels"):
        (root / part).mkdir()
    drive = SyntheticDrive(seed=4, size_hw=(64, 64), night=True)
    for index in range(4):
        scene = drive.frame(index * 10)
        cv2.imwrite(str(root / "night" / f"{index}.png"), scene.bgr)
        cv2.imwrite(str(root / "pseudo_labels" / f"{index}.png"), scene.label_map)
    return root


@pytest.fixture
def small_run(generated_data: Path, tmp_path: Path) -> list[str]:
    """Overrides of training/configs/segmenter_slim.yaml for a run of seconds."""
    return [
        f"output={tmp_path / 'run'}",
        "steps=4",
        "batch_size=4",
        "save_every=1",
        "loader_workers=0",
        "accelerator=cpu",
        f"data.source={generated_data / 'source'}",
        f"data.night={generated_data / 'night'}",
        f"data.day_validation={generated_data / 'validation'}",
        f"data.night_validation={generated_data / 'night_validation'}",
        "network.encoder_weights=null",
        "network.channels=8",
        "network.input_px=64",
        "augmentation.view_px=64",
        "augmentation.crop_px=64",
        f"data.pseudo_labels={generated_data / 'pseudo_labels'}",
        "self_training.batch_size=2",
    ]
