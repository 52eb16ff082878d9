"""Earlier translations for a discriminator, so that it does not forget what the generator did before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.data.random_streams import Stream, generator


class ImagePool(nn.Module):
    """The last translations; a part of checkpoints, since a resumed run must show the same ones.

    Args:
        size: images kept; 0 keeps none.
        image_px: their side.
        seed: of the run.
        domain: 0 or 1: pools of a run draw apart.

    Source: arXiv 1703.10593, section 4, after Shrivastava et al. (arXiv 1612.07828), section 2.3.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, *, size: int, image_px: int, seed: int, domain: int) -> None:
        super().__init__()
        self._seed, self._domain = seed, domain
        self.register_buffer("images", torch.zeros(size, 3, image_px, image_px))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, translated: Tensor, *, step: int) -> Tensor:
        """Keep images and give back, for about half of them once the pool is full, older ones in their place.

        Args:
            translated: (B, 3, S, S), of all processes, so that their pools stay the same.
            step: of the run.
        """
        shown = translated.detach().clone()
        for index, image in enumerate(translated.detach()):
            if self.filled < len(self.images):
                self.images[self.filled] = image
                self.filled += 1
                continue
            rng = generator(self._seed, Stream.IMAGE_POOL, self._domain, step * len(translated) + index)
            if len(self.images) and rng.random() < 0.5:
                place = int(rng.integers(len(self.images)))
                shown[index] = self.images[place]
                self.images[place] = image
        return shown
