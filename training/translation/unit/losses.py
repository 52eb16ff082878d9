"""The terms of UNIT's loss, one function each.

All are means, over pixels, latent components or patches, so that the weights hold for any image size.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from training.translation.unit.config import UnitWeights
from training.translation.unit.network import UnitImages

_CONVOLUTIONS_PER_STAGE = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class UnitTerms:
    """The terms that encoders and generators minimise; each is a scalar, summed over both domains.

    Attributes:
        kl: of the images' latent codes, equations 3.1 and 3.2.
        reconstruction: of the images from their own codes, 3.1 and 3.2.
        gan: 3.3 and 3.4.
        cycle_kl: of the images' and the translated images' codes, 3.5 and 3.6.
        cycle_reconstruction: of the images from the translated images' codes, 3.5 and 3.6.
        perceptual: between images and translated images, section 3.2.5.
    """

    kl: Tensor
    reconstruction: Tensor
    gan: Tensor
    cycle_kl: Tensor
    cycle_reconstruction: Tensor
    perceptual: Tensor


def unit_terms(
    day: Tensor,
    night: Tensor,
    images: UnitImages,
    discriminators: nn.Module,
    vgg: VggFeatures | None,
) -> UnitTerms:
    """Every term of one pair of batches.

    Args:
        day: (B, 3, H, W) RGB in [-1, 1].
        night: the same.
        images: what UNIT made of them.
        discriminators: `training.translation.unit.network.Discriminators`; their parameters need no gradient here.
        vgg: None without the perceptual term.
    """
    images_kl = kl_loss(images.day_mean) + kl_loss(images.night_mean)
    fake_day_logits, fake_night_logits = discriminators(images.fake_day, images.fake_night)
    if vgg is None:
        perceptual = images_kl.new_zeros(())
    else:
        perceptual = perceptual_loss(vgg, day, images.fake_night) + perceptual_loss(vgg, night, images.fake_day)
    return UnitTerms(
        kl=images_kl,
        reconstruction=reconstruction_loss(images.day_again, day) + reconstruction_loss(images.night_again, night),
        gan=generator_loss(fake_day_logits) + generator_loss(fake_night_logits),
        cycle_kl=images_kl + kl_loss(images.fake_night_mean) + kl_loss(images.fake_day_mean),
        cycle_reconstruction=reconstruction_loss(images.day_cycled, day)
        + reconstruction_loss(images.night_cycled, night),
        perceptual=perceptual,
    )


def weighted_sum(terms: UnitTerms, weights: UnitWeights) -> Tensor:
    """The loss of encoders and generators: scalar."""
    return (
        weights.kl * terms.kl
        + weights.reconstruction * terms.reconstruction
        + weights.gan * terms.gan
        + weights.cycle_kl * terms.cycle_kl
        + weights.cycle_reconstruction * terms.cycle_reconstruction
        + weights.perceptual * terms.perceptual
    )


def kl_loss(mean: Tensor) -> Tensor:
    """KL divergence of N(mean, I) from N(0, I): half the squared mean.

    Args:
        mean: any shape.

    Returns:
        Scalar: the mean over the components.

    Source: arXiv 1703.00848, equation 2.
    Differs: the mean over the components instead of their sum.
    """
    return mean.square().mean() / 2


def reconstruction_loss(reconstructed: Tensor, images: Tensor) -> Tensor:
    """Negative log-likelihood of the images under a Laplacian around their reconstruction, up to a constant: L1.

    Source: arXiv 1703.00848, section 3 ("minimizing the negative log-likelihood term is equivalent to minimizing the
    absolute distance").
    """
    return (reconstructed - images).abs().mean()


def generator_loss(fake_logits: list[Tensor]) -> Tensor:
    """How surely a discriminator tells generated images: -log D(fake), averaged over patches, summed over scales.

    Args:
        fake_logits: of each scale.

    Source: equations 3.3 and 3.4 of the thesis.
    Differs: the non-saturating form of Goodfellow et al. (arXiv 1406.2661, section 3) of log(1 - D(fake)): the same
    fixed point, with a gradient where the discriminator is sure.
    """
    return torch.stack([functional.softplus(-logits).mean() for logits in fake_logits]).sum()


def discriminator_loss(real_logits: list[Tensor], fake_logits: list[Tensor]) -> Tensor:
    """-log D(real) - log(1 - D(fake)), averaged over patches, summed over scales.

    Source: equations 3.3 and 3.4 of the thesis, negated.
    """
    terms = [
        functional.softplus(-real).mean() + functional.softplus(fake).mean()
        for real, fake in zip(real_logits, fake_logits, strict=True)
    ]
    return torch.stack(terms).sum()


def split_real_and_fake(logits: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Halves of a batch that holds real images, then as many translated ones; for each scale."""
    return [scale.chunk(2)[0] for scale in logits], [scale.chunk(2)[1] for scale in logits]


def perceptual_loss(vgg: VggFeatures, images: Tensor, translated: Tensor) -> Tensor:
    """Mean squared difference of VGG features, each channel normalised over its image.

    Args:
        vgg: the features.
        images: (B, 3, H, W) RGB in [-1, 1].
        translated: the same images in the other domain.

    Source: Johnson et al., arXiv 1603.08155, equation 2.
    Differs: the normalisation, which drops what day and night differ in (the strength of a feature over the whole
    image) and keeps where it is, after Huang et al., MUNIT, ECCV 2018 (arXiv 1804.04732), section 5.1.
    """
    with torch.no_grad():
        expected = functional.instance_norm(vgg(images))
    return functional.mse_loss(functional.instance_norm(vgg(translated)), expected)


class VggFeatures(nn.Module):
    """Frozen features of VGG-16 after one of its ReLUs.

    Args:
        weights: state dict with ``features.N.weight`` and ``features.N.bias`` as torchvision numbers them, of any
            float precision.
        layer: relu1_1 … relu5_3.
        reduction: images are averaged over squares of this side first; 2 costs a quarter.

    Raises:
        InputError: if the file is missing or not of VGG-16, or there is no such layer.

    Source: Simonyan and Zisserman, ICLR 2015 (arXiv 1409.1556), table 1, column D.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path, *, layer: str, reduction: int) -> None:
        super().__init__()
        if not weights.is_file():
            raise InputError(
                f"there are no VGG-16 weights {weights}; set perceptual.vgg_weights, "
                "or weights.perceptual=0 to do without"
            )
        layers = {
            f"relu{stage}_{convolution}": (stage, convolution)
            for stage, count in enumerate(_CONVOLUTIONS_PER_STAGE, start=1)
            for convolution in range(1, count + 1)
        }
        if layer not in layers:
            raise InputError(f"VGG-16 has no layer {layer}; expected one of {', '.join(layers)}")
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            modules: list[nn.Module] = []
            for stage, convolution in layers.values():
                if (stage, convolution) > layers[layer]:
                    break
                if convolution == 1 and stage > 1:
                    modules.append(nn.MaxPool2d(2))
                name = f"features.{len(modules)}"
                kernel, bias = state[f"{name}.weight"].float(), state[f"{name}.bias"].float()
                loaded = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                loaded.load_state_dict({"weight": kernel, "bias": bias})
                modules += [loaded, nn.ReLU()]
        except (KeyError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{weights} does not hold the convolutions of VGG-16 ({error}); fetch the file anew"
            ) from error
        self.features = nn.Sequential(*modules)
        self._reduction = reduction
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN_RGB).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD_RGB).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [-1, 1] → (B, C, h, w)."""
        images = functional.avg_pool2d((images + 1) / 2, self._reduction)
        return self.features((images - self.mean) / self.std)
