"""What every translator is once it is trained: an image in, the same scene in the other light out."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from darkseg_ros.errors import InputError

Direction = Literal["day_to_night", "night_to_day"]


class Translator(nn.Module):
    """One direction of a trained translator: (B, 3, H, W) RGB in [-1, 1] → the same in the other domain.

    Nothing is drawn at random, so equal images translate equally.

    Args:
        network: what translates.
        stride: H and W are multiples of it.
    """

    def __init__(self, network: nn.Module, *, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, images: Tensor) -> Tensor:
        refuse_odd_size(images, self.stride)
        translated: Tensor = self.network(images)
        return translated


def refuse_odd_size(images: Tensor, stride: int) -> None:
    """Raise InputError unless height and width are multiples of `stride`."""
    height, width = images.shape[-2:]
    if height % stride or width % stride:
        raise InputError(
            f"an image of {width}×{height} cannot be translated; expected sides that are multiples of {stride}: "
            "resize or pad it"
        )
