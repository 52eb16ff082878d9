from __future__ import annotations

import torch

from training.translation.cyclegan.image_pool import ImagePool


def numbered(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def shown(pool: ImagePool, steps: range) -> list[int]:
    return [int(pool.exchange(numbered(step), step=step)[0, 0, 0, 0]) for step in steps]


def test_new_images_are_shown_until_the_pool_is_full_then_older_ones_half_the_time() -> None:
    pool = ImagePool(size=4, image_px=2, seed=0, domain=0)
    assert shown(pool, range(4)) == [0, 1, 2, 3]
    later = shown(pool, range(4, 204))
    new = sum(image == step for image, step in zip(later, range(4, 204), strict=True))
    assert 75 <= new <= 125  # binomial, n = 200: 100 ± 3.5 standard deviations
    old = [image for image, step in zip(later, range(4, 204), strict=True) if image != step]
    assert len(set(old)) == len(old)  # what was given back is no longer kept


def test_a_pool_from_its_state_goes_on_as_it_would_have() -> None:
    whole = ImagePool(size=3, image_px=2, seed=5, domain=1)
    stopped, resumed = (ImagePool(size=3, image_px=2, seed=5, domain=1) for _ in range(2))
    expected = shown(whole, range(40))
    begun = shown(stopped, range(20))
    resumed.load_state_dict(stopped.state_dict())
    assert begun + shown(resumed, range(20, 40)) == expected


def test_pools_of_the_two_domains_draw_apart() -> None:
    first, second = (shown(ImagePool(size=3, image_px=2, seed=5, domain=domain), range(40)) for domain in (0, 1))
    assert first != second


def test_a_pool_of_no_size_shows_the_newest() -> None:
    assert shown(ImagePool(size=0, image_px=2, seed=0, domain=0), range(9)) == list(range(9))
