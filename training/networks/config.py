"""The networks by name, their options, and the settings that say which one a run trains.

Nothing here loads torch, so that a wrong setting is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darkseg_ros.errors import InputError
from darkseg_ros.model.exposure import Exposure
from training.networks.input_size import rectangle_hw


@dataclass
class SlimFpnOptions:
    """Of slim_fpn, for real time on two CPU cores.

    Attributes:
        channels: width of the decoder.
        finest_stride: stride at which the levels are summed, 4, or 8, which is faster.
        finest_channels: width of the head, narrower than `channels` only with finest_stride 8; null for `channels`.
        dropout: share of channels dropped before the head.
    """

    channels: int = 64
    finest_stride: int = 4
    finest_channels: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.finest_stride not in (4, 8):
            raise ValueError(f"finest_stride is {self.finest_stride}; expected 4 or 8")
        if self.finest_stride == 4 and self.finest_channels not in (None, self.channels):
            raise ValueError(f"finest_channels is {self.finest_channels}; expected {self.channels}, or finest_stride 8")


@dataclass
class PanopticFpnOptions:
    """Of panoptic_fpn, the thesis's.

    Attributes:
        pyramid_channels: width of the pyramid.
        segmentation_channels: width of the branches, a multiple of 32.
        dropout: share of channels dropped before the head.
    """

    pyramid_channels: int = 256
    segmentation_channels: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.segmentation_channels % 32:
            raise ValueError(
                f"segmentation_channels is {self.segmentation_channels}; expected a multiple of 32, the groups that "
                "are normalised together"
            )


@dataclass
class FcnOptions:
    """Of fcn.

    Attributes:
        stride: of the finest logits before the last upsampling: 32, 16 or 8, the s of FCN-32s and so on.
    """

    stride: int = 8

    def __post_init__(self) -> None:
        if self.stride not in (8, 16, 32):
            raise ValueError(f"stride is {self.stride}; expected 8, 16 or 32")


@dataclass
class DeconvNetOptions:
    """Of deconvnet.

    Attributes:
        channels: width between encoder and decoder; the paper has 4096.
    """

    channels: int = 512


@dataclass
class UnetOptions:
    """Of unet.

    Attributes:
        channels: width of the decoder's coarsest step, a multiple of 4; each further one has half as many.
    """

    channels: int = 256

    def __post_init__(self) -> None:
        if self.channels < 4 or self.channels % 4:
            raise ValueError(f"channels is {self.channels}; expected a multiple of 4, which is halved twice")


@dataclass
class RefineNetOptions:
    """Of refinenet.

    Attributes:
        channels: width of the decoder; the paper has 256.
        dropout: share of channels dropped before the head.
    """

    channels: int = 64
    dropout: float = 0.1


@dataclass
class ContextOptions:
    """Of pspnet, deeplabv3 and deeplabv3plus.

    Attributes:
        channels: width of the decoder; PSPNet's paper has 512.
        dropout: share dropped before the head, of channels in pspnet, of values in the others.
    """

    channels: int = 256
    dropout: float = 0.1


@dataclass
class VitOptions:
    """Of vit.

    Attributes:
        channels: width of the decoder; SETR's paper has 256.
    """

    channels: int = 128


@dataclass
class SegformerOptions:
    """Of segformer.

    Attributes:
        channels: width of the decoder; its authors take 256 for mit_b0 and mit_b1, else 768.
    """

    channels: int = 256


@dataclass
class NoOptions:
    """Of a network that its paper fixes."""


@dataclass(frozen=True)
class Network:
    """A row of `NETWORKS`.

    Attributes:
        title: what model cards and tables call it.
        builder: ``module:callable`` under `training.networks`; it takes ``encoder`` (the name), ``num_classes`` and the
            fields of `options` by keyword, and answers as `training.networks.build.build_network` says.
        options: dataclass; ValueErrors of its ``__post_init__`` begin with the option's name.
        encoder: the default.
    """

    title: str
    builder: str
    options: type
    encoder: str


NETWORKS: dict[str, Network] = {
    "slim_fpn": Network("Slim feature pyramid network", "slim_fpn:SlimFpn", SlimFpnOptions, "mobilenet_v2"),
    "panoptic_fpn": Network("Panoptic feature pyramid network", "smp:panoptic_fpn", PanopticFpnOptions, "mobilenet_v2"),
    "fcn": Network("FCN", "fcn:build", FcnOptions, "mobilenet_v2"),
    "deconvnet": Network("DeconvNet", "deconvnet:build", DeconvNetOptions, "vgg11_bn"),
    "unet": Network("U-Net", "smp:unet", UnetOptions, "mobilenet_v2"),
    "pspnet": Network("PSPNet", "smp:pspnet", ContextOptions, "mobilenet_v2"),
    "refinenet": Network("RefineNet", "refinenet:build", RefineNetOptions, "mobilenet_v2"),
    "deeplabv2": Network("DeepLabv2", "deeplabv2:build", NoOptions, "mobilenet_v2"),
    "deeplabv3": Network("DeepLabv3", "smp:deeplabv3", ContextOptions, "mobilenet_v2"),
    "deeplabv3plus": Network("DeepLabv3+", "smp:deeplabv3plus", ContextOptions, "mobilenet_v2"),
    "vit": Network("Vision Transformer", "vit:build", VitOptions, "tu-vit_tiny_patch16_224"),
    "segformer": Network("SegFormer", "smp:segformer", SegformerOptions, "mit_b0"),
    "lraspp": Network("LR-ASPP", "torchvision:lraspp", NoOptions, "mobilenet_v3_large"),
    "ddrnet": Network("DDRNet-23-slim", "ddrnet:DdrNet23Slim", NoOptions, "ddrnet_23_slim"),
}
"""Every network, by the name that ``network.name`` takes. A new one is a row here and the file that builds it."""


@dataclass
class NetworkConfig:
    """The network and what it starts from.

    Attributes:
        name: a key of `NETWORKS`.
        encoder: as `training.networks.encoders` names it; null for the network's own default.
        encoder_weights: file of weights for the encoder, see `training.networks.encoders.load_encoder_weights`; null
            for a random start.
        start_checkpoint: checkpoint of another run of the same network whose averaged weights this run starts from;
            null for none.
        freeze_batch_norm: keep the statistics and weights of every BatchNorm as they start, as Panoptic FPN's authors
            do. Batch statistics are those of one process: freeze them where a process sees few images.
        input_px: height of what validation images, and later camera frames, are squeezed into.
        width_over_height: of that; the width is rounded to a multiple of 32. 1 is a square, 2 keeps the shape of
            Cityscapes' images.
        exposure_mean: mean grey level that darker images and frames are brightened to; null leaves all as they are.
        exposure_gamma_min: smallest exponent of that, see `darkseg_ros.model.exposure.Exposure`.
        options: of the network that `name` names; `complete` gives them the types and defaults of its row.
    """

    name: str = "slim_fpn"
    encoder: str | None = None
    encoder_weights: str | None = None
    start_checkpoint: str | None = None
    freeze_batch_norm: bool = False
    input_px: int = 384
    width_over_height: float = 1.0
    exposure_mean: float | None = None
    exposure_gamma_min: float = 0.3
    options: dict[str, Any] = field(default_factory=dict)


def input_hw_of(config: NetworkConfig | DictConfig) -> tuple[int, int]:
    """Height and width of the input of a network with these settings, `complete` ones."""
    return rectangle_hw(config.input_px, config.width_over_height)


def exposure_of(config: NetworkConfig | DictConfig) -> Exposure | None:
    """What a network's settings say about dark images; None also for settings from before there was such a fact."""
    target_mean = getattr(config, "exposure_mean", None)
    return None if target_mean is None else Exposure(target_mean, config.exposure_gamma_min)


def complete(settings: NetworkConfig | DictConfig | Mapping[str, Any]) -> DictConfig:
    """The settings of a network with its default encoder and all of its options filled in.

    Args:
        settings: a `NetworkConfig`, or a mapping with keys of it.

    Raises:
        InputError: naming the key, if there is no such network or option, or a value does not fit.
    """
    try:
        # a copy: the caller's stays as it is
        config = OmegaConf.merge(OmegaConf.structured(NetworkConfig), settings)
    except OmegaConfBaseException as error:
        raise InputError(f"network: {str(error).splitlines()[0]}") from error
    assert isinstance(config, DictConfig)
    row = NETWORKS.get(config.name)
    if row is None:
        raise InputError(f"network.name is {config.name}; expected one of {', '.join(NETWORKS)}")
    known = [option.name for option in fields(row.options)]
    for key in config.options:
        if key not in known:
            expected = f"its options are {', '.join(known)}" if known else "it has none"
            raise InputError(f"network.options.{key} is no option of {config.name}; {expected}")
    try:
        options = OmegaConf.merge(OmegaConf.structured(row.options), config.options)
        OmegaConf.to_object(options)
    except OmegaConfBaseException as error:
        raise InputError(f"network.options: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise InputError(f"network.options.{error}") from error
    config.options = OmegaConf.to_container(options)
    if config.encoder is None:
        config.encoder = row.encoder
    return config


_FLAT_OPTIONS = (
    *("channels", "finest_stride", "finest_channels", "pyramid_channels", "segmentation_channels", "dropout"),
)
"""Keys that lay beside ``encoder`` until 2026-11-28."""


def from_flat(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as runs wrote them until 2026-11-28, with all networks' options side by side, in today's form.

    The options of other networks, which had no effect, are left out. Settings of today's form stay as they are.
    """
    if "name" in saved or "options" in saved:
        return dict(saved)
    given = {key: saved[key] for key in _FLAT_OPTIONS if key in saved}
    renewed = {key: value for key, value in saved.items() if key != "architecture" and key not in given}
    # the first runs knew one network alone and named none; settings of the command line may name none either
    if (name := saved.get("architecture")) is not None:
        own = {option.name for option in fields(NETWORKS[name].options)} if name in NETWORKS else set(_FLAT_OPTIONS)
        given = {key: value for key, value in given.items() if key in own}
        renewed["name"] = str(name)
    return {**renewed, "options": given} if given else renewed
