"""The vectorised augmentation against a loop over examples."""

import torch
from torch import Tensor

from runner.core import rng
from runner.datasets.augment import augment

IMAGES = torch.rand(64, 3, 6, 9, generator=torch.Generator().manual_seed(0))
KEYS = rng.example_keys(5, torch.arange(64), "augment")


def naive(images: Tensor, keys: Tensor, flip: bool, pad: int) -> Tensor:
    result = []
    for image, (coin, down, right) in zip(images, rng.uniform(keys, (3,)), strict=True):
        canvas = torch.zeros(image.shape[0], image.shape[1] + 2 * pad, image.shape[2] + 2 * pad)
        canvas[:, pad : pad + image.shape[1], pad : pad + image.shape[2]] = image
        top, left = int(down * (2 * pad + 1)), int(right * (2 * pad + 1))
        window = canvas[:, top : top + image.shape[1], left : left + image.shape[2]]
        result.append(window.flip(2) if flip and coin < 0.5 else window)
    return torch.stack(result)


def test_equal_to_the_loop() -> None:
    for flip, pad in ((True, 2), (False, 2), (True, 0), (False, 0)):
        expected = naive(IMAGES, KEYS, flip, pad)
        actual = augment(IMAGES, KEYS, flip, pad)
        assert torch.equal(actual, expected), (flip, pad)


def test_shifts_reach_every_offset_and_flips_are_fair() -> None:
    keys = rng.example_keys(0, torch.arange(4000))
    draws = rng.uniform(keys, (3,))
    assert set((draws[:, 1] * 5).long().tolist()) == {0, 1, 2, 3, 4}
    ramp = torch.arange(4.0).expand(4000, 1, 4, 4)
    flipped = (augment(ramp, keys, True, 0)[:, 0, 0, 0] == 3).double().mean()
    assert abs(flipped - 0.5) < 4 * 0.5 / 4000**0.5


def test_an_example_is_augmented_alike_in_any_batch() -> None:
    alone = augment(IMAGES[7:8], KEYS[7:8], True, 2)
    assert torch.equal(augment(IMAGES, KEYS, True, 2)[7:8], alone)
    assert not torch.equal(augment(IMAGES, rng.fold(KEYS, 1), True, 2), augment(IMAGES, KEYS, True, 2))
