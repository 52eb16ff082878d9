from __future__ import annotations

import numpy as np
import pytest

from training.translation.enhancement import equalise, match_histogram


def test_an_image_takes_the_levels_of_the_other_in_their_order() -> None:
    ramp = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=2) * 60
    reference = np.array([[7, 9], [30, 100]], np.uint8)[:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(match_histogram(ramp, reference), reference)


def test_channels_are_matched_apart_and_sizes_may_differ() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    reference = np.stack([rng.integers(low, low + 40, (30, 50)) for low in (0, 60, 200)], axis=2).astype(np.uint8)
    matched = match_histogram(image, reference)
    for channel in range(3):
        for share in (5, 50, 95):
            assert np.percentile(matched[:, :, channel], share) == pytest.approx(
                np.percentile(reference[:, :, channel], share), abs=2
            )


def test_an_image_with_its_own_light_stays_as_it_is() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(match_histogram(image, image), image)


def test_equalisation_raises_contrast_and_keeps_grey_grey() -> None:
    dark = np.random.default_rng(2).integers(20, 40, (64, 64, 1), np.uint8).repeat(3, axis=2)
    equalised = equalise(dark)
    assert equalised.std() > 1.5 * dark.std()
    assert np.abs(equalised.astype(int) - equalised[:, :, :1]).max() <= 2
