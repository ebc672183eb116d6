"""Random flip and pad-and-crop of a whole batch; the random numbers depend only on the examples' keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.core import rng


def augment(images: Tensor, keys: Tensor, flip: bool, pad: int) -> Tensor:
    """(N, C, H, W) images, each mirrored with probability 1/2 and shifted by up to `pad` pixels over a black border.

    The usual augmentation of CIFAR (He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2).
    `keys` (N,) int64 lie on the images' device; an example with the same key gets the same flip and shift in any batch.
    """
    if not flip and pad == 0:
        return images
    count, channels, height, width = images.shape
    draws = rng.uniform(keys, (3,))
    shifts = (draws[:, 1:] * (2 * pad + 1)).to(torch.int64)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if flip:
        columns = torch.where(draws[:, :1] < 0.5, width - 1 - columns, columns)
    columns = columns + shifts[:, 1:]
    rows = torch.arange(height, device=images.device) + shifts[:, :1]
    padded = F.pad(images, (pad, pad, pad, pad))
    examples = torch.arange(count, device=images.device).reshape(-1, 1, 1, 1)
    planes = torch.arange(channels, device=images.device).reshape(1, -1, 1, 1)
    return padded[examples, planes, rows[:, None, :, None], columns[:, None, None, :]]
