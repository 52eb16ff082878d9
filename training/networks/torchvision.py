"""The networks of torchvision, each a function that takes its parts."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from darkseg_ros.errors import InputError
from training.networks.layers import EncoderDecoder

_LRASPP_ENCODER = "mobilenet_v3_large"


class _Features(nn.Module):
    """A backbone under the names of torchvision's classifier, whose weights it takes."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = self.features(images)
        return features


def lraspp(*, encoder: str, num_classes: int) -> EncoderDecoder:
    """LR-ASPP on MobileNetV3-Large; its own logits have an eighth of the images' size.

    Raises:
        InputError: if `encoder` is another.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv 1905.02244), section 6.4.
    """
    if encoder != _LRASPP_ENCODER:
        raise InputError(f"network.encoder is {encoder}; lraspp takes {_LRASPP_ENCODER} alone")
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    return EncoderDecoder(_Features(model.backbone), nn.Identity(), model.classifier)
