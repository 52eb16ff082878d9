"""PatchGAN: a discriminator that judges each patch of an image."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """(B, C, H, W) images in [-1, 1] → (B, 1, h, w), one value a patch, large for real ones.

    Args:
        in_channels: C; 6 where an image is judged beside another.
        channels: width of the first layer, doubled by each further one, at most eightfold.
        layers: convolutions of stride 2; 3 make patches of 70 pixels.

    Source: Isola et al., Pix2Pix, CVPR 2017 (arXiv 1611.07004), sections 3.2.2 and 6.1.2.
    Differs: instance normalisation, as in CycleGAN (arXiv 1703.10593); it is batch normalisation of single images.
    """

    def __init__(self, *, in_channels: int, channels: int, layers: int) -> None:
        super().__init__()
        modules: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            modules += [
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(wider, wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*modules)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.layers(images)
        return values


def smallest_px(layers: int) -> int:
    """Side of the smallest image that a `PatchDiscriminator` judges."""
    return 3 * 2**layers
