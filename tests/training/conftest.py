"""A training run of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def small_run(small_settings: list[str], tmp_path: Path) -> list[str]:
    """Overrides of training/configs/segmenter_slim.yaml for a run of seconds, into a folder of the test's own."""
    return [f"output={tmp_path / 'run'}", *small_settings]


@pytest.fixture(scope="session")
def small_settings(generated_data: Path) -> list[str]:
    """The same without the folder."""
    return [
        "steps=4",
        "batch_size=4",
        "save_every=1",
        "loader_workers=0",
        "accelerator=cpu",
        f"data.source=[{generated_data / 'source'}]",
        f"data.night={generated_data / 'night'}",
        f"data.validation.day={generated_data / 'validation'}",
        f"data.validation.night={generated_data / 'night_validation'}",
        "network.encoder_weights=null",
        "network.options.channels=8",
        "network.input_px=64",
        "augmentation.view_px=64",
        "augmentation.crop_px=64",
        f"data.pseudo_labels={generated_data / 'pseudo_labels'}",
        "self_training.batch_size=2",
    ]
