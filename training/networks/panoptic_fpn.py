"""The thesis's segmenter: the semantic branch of Panoptic FPN on any encoder."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.errors import InputError

_NORMALISATION_GROUPS = 32


class PanopticFpn(nn.Module):
    """Images → logits at a quarter of their size: encoder → pyramid p2…p5, all brought to p2's size and summed → head.

    Args:
        encoder: name of a segmentation_models_pytorch encoder with features at strides 4, 8, 16 and 32.
        pyramid_channels: width of p2…p5.
        segmentation_channels: width of the branch from each of them; a multiple of 32, for GroupNorm.
        dropout: share of the summed channels dropped in training.

    Raises:
        InputError: if `segmentation_channels` is no multiple of 32.

    Source: Kirillov et al., CVPR 2019 (arXiv 1901.02446), section 3.1 and figure 3; thesis, section 3.3.1.
    Differs: dropout before the head, and ×2 steps with aligned corners inside the branches, are those of
        segmentation_models_pytorch, with which the thesis worked. The last ×4 is left to `upsample_bilinear` with
        half-pixel centres, as the vehicle's runtime does it.
    """

    def __init__(
        self, *, encoder: str, pyramid_channels: int = 256, segmentation_channels: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if segmentation_channels % _NORMALISATION_GROUPS:
            raise InputError(
                f"network.segmentation_channels is {segmentation_channels}; expected a multiple of "
                f"{_NORMALISATION_GROUPS}, the groups that are normalised together"
            )
        fpn = smp.FPN(
            encoder,
            encoder_weights=None,
            decoder_pyramid_channels=pyramid_channels,
            decoder_segmentation_channels=segmentation_channels,
            decoder_dropout=dropout,
            classes=NUM_CLASSES,
            upsampling=1,
        )
        self.encoder, self.decoder, self.head = fpn.encoder, fpn.decoder, fpn.segmentation_head

    def forward(self, images: Tensor) -> Tensor:
        """Segment.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised; H and W multiples of 32.

        Returns:
            (B, 19, H/4, W/4) float logits.

        Raises:
            ValueError: if H or W is no multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"images are {height}×{width}; both sides must be multiples of 32: resize or crop first")
        logits: Tensor = self.head(self.decoder(self.encoder(images)))
        return logits
