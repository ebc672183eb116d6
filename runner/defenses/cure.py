"""Curvature regularisation, CURE (Moosavi-Dezfooli et al., CVPR 2019): penalises the change of the loss gradient along its sign.

A finite difference replaces the Hessian-vector product: g(x + h z) - g(x) = h H z + o(h), so that training needs no third
derivative. Shapes: images, gradient g, direction z and the change (N, C, H, W); sizes (N,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from runner.core.errors import require, require_at_least, require_positive
from runner.core.norms import normalise
from runner.core.types import Batch
from runner.defenses.input_gradient import input_gradient, sizes
from runner.defenses.modes import evaluating
from runner.defenses.regulariser import regularised


@dataclass(frozen=True)
class CurvatureRegularisation:
    """cross-entropy + weight * mean ||g(x + h z) - g(x)||_2^2, with g the gradient of the cross-entropy in the image and
    z = sign(g(x)) / ||sign(g(x))||_2, which is not differentiated. To first order the norm is h ||H z||.

    `h` is an l2 length in units of [0, 1] images; on images normalised by a standard deviation s it would be h / s.
    `ramp`: shares of h in epochs 0, 1, ...; the last one applies to all later epochs. `squared: false`: the released code.
    """

    weight: float = 4.0
    h: float = 1.5
    ramp: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0)
    squared: bool = True

    def __post_init__(self) -> None:
        require_at_least("defense.weight", self.weight, 0)
        require_positive("defense.h", self.h)
        allowed = "a list of at least one share of h, each above 0"
        require(len(self.ramp) > 0 and all(share > 0 for share in self.ramp), "defense.ramp", self.ramp, allowed)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` before weighting."""
        return regularised(self, model, batch, self.weight)

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean (squared) norm of the gradient's change over h of this epoch, in evaluation mode as in the released code."""
        with evaluating(model):
            change = gradient_change(model, batch.images, batch.labels, self.reach(batch.epoch))
        return sizes(change, self.squared).mean()

    def reach(self, epoch: int) -> float:
        """h of an epoch."""
        return self.h * self.ramp[min(epoch, len(self.ramp) - 1)]


def gradient_change(model: nn.Module, images: Tensor, labels: Tensor, h: float) -> Tensor:
    """(N, C, H, W) g(x + h z) - g(x); z is zero where the gradient is."""
    gradient = input_gradient(model, images, labels)
    direction = normalise(gradient.detach().sign(), "l2")
    return input_gradient(model, images + h * direction, labels) - gradient
