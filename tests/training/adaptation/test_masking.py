from __future__ import annotations

import torch

from training.adaptation.masking import mask_blocks


def test_a_share_of_the_blocks_of_a_share_of_the_images_is_black() -> None:
    images = torch.ones(200, 3, 32, 32)
    masked = mask_blocks(images, share=0.5, ratio=0.3, block_px=8, seed=1, step=2)
    black = (masked == 0).float().mean((1, 2, 3))
    assert 0.35 < (black > 0).float().mean() < 0.65
    assert 0.2 < black[black > 0].mean() < 0.4


def test_the_choice_goes_by_position_and_no_share_changes_nothing() -> None:
    images = torch.randn(4, 3, 32, 40)
    whole = mask_blocks(images, share=0.5, ratio=0.5, block_px=16, seed=3, step=0)
    second = mask_blocks(images[2:], share=0.5, ratio=0.5, block_px=16, seed=3, step=0, first_position=2)
    assert torch.equal(whole[2:], second)
    assert torch.equal(mask_blocks(images, share=0, ratio=0.5, block_px=16, seed=3, step=0), images)
