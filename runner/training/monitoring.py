"""Quantities logged during training: curvature of the loss, Lipschitz constant of the gradient, passes per example."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from runner.core import rng
from runner.core.norms import lengths, sample_ball
from runner.datasets.base import Examples
from runner.defenses.closed_form import top_eigenvalue

WATCHED = 32
"""Images in the fixed batch: the first test images, which are class-balanced."""

MAX_CLASSES = 20
"""With more classes the eigenvalue is left out: the closed form, with one backward pass per class, would cost too much."""


def curvature(model: nn.Module, examples: Examples, device: torch.device) -> dict[str, float]:
    """Two means over the fixed batch, in evaluation mode.

    `top_eigenvalue`: of the input Hessian of the cross-entropy (W A W^T, see `runner.defenses.closed_form`). `gradient_lipschitz`:
    the largest ||g(x + u) - g(x)|| / ||u|| over 4 draws of u in the l2 ball of radius 0.1, with g the gradient of the predicted
    logit; a lower bound on the local Lipschitz constant lambda of Wang et al. (2020).
    """
    count = min(WATCHED, len(examples))
    images, _, ids = examples.batch(torch.arange(count), device)
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(images)
    values = {"gradient_lipschitz": float(_gradient_lipschitz(model, images, logits.argmax(dim=1), ids).mean())}
    if logits.shape[1] <= MAX_CLASSES:
        values["top_eigenvalue"] = float(top_eigenvalue(model, images).detach().mean())
    return values


def _gradient_lipschitz(
    model: nn.Module, images: Tensor, targets: Tensor, ids: Tensor, draws: int = 4, radius: float = 0.1
) -> Tensor:
    keys = rng.example_keys(0, ids.cpu(), "gradient-lipschitz").to(images.device)
    clean = _gradient(model, images, targets)
    ratios = []
    for draw in range(draws):
        step = sample_ball(rng.fold(keys, draw), tuple(images.shape[1:]), radius, "l2")
        turned = lengths(_gradient(model, images + step, targets) - clean, "l2")
        ratios.append(turned / lengths(step, "l2").clamp_min(1e-12))
    return torch.stack(ratios).amax(dim=0)


def _gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad():
        chosen = model(leaf).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, leaf)
    return gradient


class Passes:
    """Counts the images that go forward through a model, and the gradients that come back through its logits."""

    def __init__(self, model: nn.Module, forward: int = 0, backward: int = 0) -> None:
        self.model, self.forward, self.backward = model, forward, backward

    def __deepcopy__(self, memo: object) -> Passes:
        """Itself, so that the passes of a softplus twin, which copies the model with its hooks, count too."""
        return self

    def __enter__(self) -> Passes:
        self._handle = self.model.register_forward_hook(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def each(self, examples: int) -> dict[str, float]:
        """Passes per training example."""
        return {"forward_passes": self.forward / max(examples, 1), "backward_passes": self.backward / max(examples, 1)}

    def _count(self, module: nn.Module, arguments: Any, logits: Tensor) -> None:
        size = len(logits)
        self.forward += size
        if logits.requires_grad and not torch._C._functorch.is_functorch_wrapped_tensor(logits):
            logits.register_hook(lambda gradient: self._came_back(size))

    def _came_back(self, size: int) -> None:
        self.backward += size
