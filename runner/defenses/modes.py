"""Evaluation statistics inside a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; on leaving, its mode is restored.

    With batch normalisation in training mode, the logits of an image depend on the rest of the batch, and so would its
    adversarial image and its Hessian.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes.items():
            module.training = training
