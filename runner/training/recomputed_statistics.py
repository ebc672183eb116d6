"""The accuracy of a trained network with its batch normalisation's statistics computed afresh from training images.

If it differs from the accuracy as trained, the running statistics are not those of the network that was trained, and neither
accuracy nor robustness can be trusted.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.core.flags import Flag
from runner.datasets.base import Dataset
from runner.training.trainer import accuracy

IMAGES, BATCH = 2000, 100
"""Training images for the statistics, the first of the split's order, which is balanced by class; at most this many at once."""
LARGEST_GAP = 0.02
"""Difference of the two accuracies above which a flag is raised."""


def accuracy_with_fresh_statistics(model: nn.Module, data: Dataset, device: torch.device) -> float | None:
    """Share of correct test examples with fresh statistics; None for a network without running statistics.

    The statistics are averages over batches of training images without augmentation; the model itself is not changed.
    """
    fresh = copy.deepcopy(model).eval()
    layers = [layer for layer in fresh.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    if not layers:
        return None
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over all batches
        layer.train()
    with torch.no_grad():
        split = data.training_split()
        for images, *_ in split.batches(torch.arange(min(len(split), IMAGES)).split(BATCH), device):
            if len(images) > 1:  # the variance of a single image may be zero
                fresh(images)
    return accuracy(fresh, data.test, device)


def statistics_flag(trained: float, fresh: float) -> Flag:
    """Raised when the two accuracies differ by more than two points."""
    gap = abs(trained - fresh)
    says = f"test accuracy is {trained:.3f}, and {fresh:.3f} with batch-normalisation statistics computed afresh"
    return Flag(says, gap, LARGEST_GAP, tripped=gap > LARGEST_GAP)
