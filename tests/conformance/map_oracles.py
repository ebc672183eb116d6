"""Oracles of metrics that take more than one call of a library."""

from typing import Any

import skimage.metrics
import torch
from torch import Tensor


def structural_similarity(metric: Any, reference: Tensor, other: Tensor) -> Tensor:
    """(N,) of scikit-image on maps scaled to [0, 1] by one range, with the settings of Wang et al. (2004)."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    values = []
    for first, second in zip(reference.numpy(), other.numpy(), strict=True):
        low, high = min(first.min(), second.min()), max(first.max(), second.max())
        pair = [(maps - low) / (high - low) for maps in (first, second)]
        values.append(skimage.metrics.structural_similarity(*pair, **settings))
    return torch.tensor(values, dtype=torch.float64)
