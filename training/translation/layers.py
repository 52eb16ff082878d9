"""Parts that the generators of several translators are made of."""

from __future__ import annotations

from torch import Tensor, nn


def convolution(in_channels: int, out_channels: int, kernel: int, *, norm: str, stride: int = 1) -> list[nn.Module]:
    """A convolution with reflected borders and its normalisation.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel: side of the kernel.
        norm: instance or layer.
        stride: of the kernel.
    """
    layer = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, padding_mode="reflect", bias=False
    )
    nn.init.kaiming_normal_(layer.weight)
    # Layer normalisation of a feature map is group normalisation with one group.
    groups = 1 if norm == "layer" else out_channels
    return [layer, nn.GroupNorm(groups, out_channels)]


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(channels, channels, 3, norm=norm), nn.ReLU(), *convolution(channels, channels, 3, norm=norm)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def residual_stack(channels: int, count: int, norm: str) -> nn.Sequential:
    """`count` blocks, one after the other."""
    return nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(count)))


def downsampling(channels: int) -> list[nn.Module]:
    """(B, 3, H, W) image → (B, 4 · channels, H/4, W/4), with instance normalisation."""
    return [
        *convolution(3, channels, 7, norm="instance"),
        nn.ReLU(),
        *convolution(channels, 2 * channels, 4, norm="instance", stride=2),
        nn.ReLU(),
        *convolution(2 * channels, 4 * channels, 4, norm="instance", stride=2),
        nn.ReLU(),
    ]


def upsampling(channels: int, norm: str) -> list[nn.Module]:
    """(B, 4 · channels, H/4, W/4) → (B, 3, H, W) image in [-1, 1]; nearest neighbours leave no checkerboard."""
    return [
        nn.Upsample(scale_factor=2),
        *convolution(4 * channels, 2 * channels, 3, norm=norm),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        *convolution(2 * channels, channels, 3, norm=norm),
        nn.ReLU(),
        image_layer(channels),
        nn.Tanh(),
    ]


def image_layer(channels: int) -> nn.Conv2d:
    """The last convolution, to RGB."""
    layer = nn.Conv2d(channels, 3, 7, padding=3, padding_mode="reflect")
    nn.init.kaiming_normal_(layer.weight)
    layer.weight.data *= 0.3  # the tanh after it would start saturated, and hardly learn
    return layer
