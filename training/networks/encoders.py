"""The encoders by name, of segmentation_models_pytorch and of timm, and the weights that they start from.

The names are segmentation_models_pytorch's, such as resnet101, and ``tu-`` with a name of timm, such as
tu-convnext_tiny. Features have strides 1, 2, 4, 8, 16 and 32.
"""

from __future__ import annotations

from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from training.networks.layers import upsample_bilinear

_PATCH_PX = 16
_VIT_EXPECTED = f"expected a vision transformer of timm with patches of {_PATCH_PX}, such as tu-vit_tiny_patch16_224"


def build_encoder(name: str, *, output_stride: int = 32) -> nn.Module:
    """An encoder with random weights: (B, 3, H, W) images → features c0…c5, their channels in ``out_channels``.

    Args:
        name: see above.
        output_stride: 32, or 16 or 8: the last stages are dilated instead of strided.

    Raises:
        InputError: if there is no such encoder, its features have other strides, or it cannot be dilated.
    """
    if name not in smp.encoders.get_encoder_names() and not name.startswith("tu-"):
        raise InputError(
            f"network.encoder is {name}; expected a name of segmentation_models_pytorch, such as resnet101, "
            "or tu- with a name of timm, such as tu-convnext_tiny"
        )
    try:
        encoder: nn.Module = smp.encoders.get_encoder(name, weights=None, output_stride=output_stride)
    except Exception as error:  # timm and segmentation_models_pytorch raise half a dozen types
        wanted = "" if output_stride == 32 else f" with an output stride of {output_stride}, which this network needs"
        raise InputError(f"network.encoder is {name}, which cannot be built{wanted} ({error}); take another") from error
    return encoder


class VitEncoder(nn.Module):
    """A vision transformer of timm: (B, 3, H, W) images → (B, C, H/16, W/16) features.

    The position embeddings are resized bilinearly to the images' grid of patches; the weights keep timm's grid, so that
    one checkpoint serves all sizes. Its class token takes part and is dropped at the end.

    Args:
        name: ``tu-`` and a name of timm, such as tu-vit_tiny_patch16_224.

    Attributes:
        out_channels: (C,).

    Raises:
        InputError: if timm has no such vision transformer with patches of 16 pixels.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name.removeprefix("tu-")
        try:
            self.vit = timm.create_model(self.name, pretrained=False, num_classes=0)
        except RuntimeError as error:
            raise InputError(f"network.encoder is {name}, which cannot be built ({error}); {_VIT_EXPECTED}") from error
        plain = (
            isinstance(self.vit, VisionTransformer) and self.vit.num_prefix_tokens == 1 and not self.vit.no_embed_class
        )
        if not plain or self.vit.patch_embed.patch_size != (_PATCH_PX, _PATCH_PX):
            raise InputError(f"network.encoder is {name}; {_VIT_EXPECTED}")
        self.out_channels = (self.vit.embed_dim,)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.vit.patch_embed.proj(images)
        batch, channels, height, width = patches.shape
        rows, columns = self.vit.patch_embed.grid_size
        of_class, of_patches = self.vit.pos_embed[:, :1], self.vit.pos_embed[:, 1:]
        grid = of_patches.transpose(1, 2).reshape(1, channels, rows, columns)
        tokens = (patches + upsample_bilinear(grid, (height, width))).flatten(2).transpose(1, 2)
        class_token = (self.vit.cls_token + of_class).expand(batch, -1, -1)
        tokens = self.vit.norm_pre(torch.cat([class_token, tokens], 1))
        tokens = self.vit.norm(self.vit.blocks(tokens))
        return tokens[:, 1:].transpose(1, 2).reshape(batch, channels, height, width)


def load_encoder_weights(encoder: nn.Module, weights: Path) -> None:
    """Load weights into an encoder of the same kind.

    Args:
        encoder: of `build_encoder`, or of a network's own.
        weights: torchvision's state dict of a classifier; for an encoder of timm, timm's, as .pth or .safetensors; or a
            checkpoint of training.train_segmenter, whose averaged encoder is taken, or of training.distil_stem.

    Raises:
        InputError: if the file is missing, none of these, or does not fit the encoder.
    """
    if not weights.is_file():
        raise InputError(f"there are no encoder weights {weights}; set DARKSEG_DATA or network.encoder_weights")
    if weights.suffix == ".safetensors":
        state = {}
    else:
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a handful of unrelated types for a damaged file
            raise InputError(f"{weights} is no whole state dict ({error}); fetch it again") from error
    if "teacher" in state:
        state = {name.removeprefix("encoder."): value for name, value in state["teacher"].items()}
    elif isinstance(encoder, (TimmUniversalEncoder, VitEncoder)):
        state = _as_timm_loads(encoder, weights)
    expected = encoder.state_dict()
    unfit = sorted(name for name in expected if name not in state or state[name].shape != expected[name].shape)
    if unfit:
        raise InputError(
            f"{weights} lacks {len(unfit)} parameters of the encoder, {unfit[0]} first; "
            "name the weights of the same encoder, or a checkpoint of the same network"
        )
    nn.Module.load_state_dict(encoder, {name: state[name] for name in expected})


def _as_timm_loads(encoder: TimmUniversalEncoder | VitEncoder, weights: Path) -> dict[str, Tensor]:
    """Timm renames a classifier's parameters for its features, each family in its own way."""
    file = {"file": str(weights)}
    try:
        if isinstance(encoder, VitEncoder):
            vit = timm.create_model(encoder.name, pretrained=True, num_classes=0, pretrained_cfg_overlay=file)
            return {f"vit.{name}": value for name, value in vit.state_dict().items()}
        loaded = smp.encoders.get_encoder(f"tu-{encoder.name}", weights=True, pretrained_cfg_overlay=file)
    except Exception as error:  # as in `build_encoder`
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{weights} are no weights of timm's {encoder.name} ({first}); name that model's") from error
    state: dict[str, Tensor] = loaded.state_dict()
    return state
