"""Evaluation statistics inside a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode, and as it was before on leaving.

    With batch normalisation in training mode the logits of one image depend on the others, so neither an adversarial image
    nor a Hessian of one example would be its own.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes.items():
            module.training = training
