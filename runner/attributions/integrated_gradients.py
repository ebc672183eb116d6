"""Integrated gradients: the gradient averaged over the straight path from a baseline to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from runner.attributions.baseline import Baseline, level_image, levels
from runner.attributions.gradients import weighted_gradients
from runner.attributions.options import GradientOptions
from runner.core.errors import require_at_least

Rule = Literal["riemann_right", "riemann_middle", "gausslegendre"]


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(GradientOptions):
    """(x - b) * int_0^1 df_c(b + a (x - b))/dx da (Sundararajan et al., 2017, equation 1), in `steps` points.

    `rule`: riemann_right has the points i/m, i = 1..m (their equation 3, and the released code of the papers on
    attribution robustness); riemann_middle (i - 1/2)/m; gausslegendre is the most exact (Captum's default).
    `baseline`: one number, or one per channel, in units of [0, 1] images. Without `multiply_by_input`, the factor (x - b)
    is left out.
    """

    multiply_by_input: bool = True
    steps: int = 50
    rule: Rule = "riemann_right"
    baseline: Baseline = 0.0
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.steps", self.steps, 1)
        levels(self.baseline)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; with `multiply_by_input` they sum to about f_c(x) - f_c(b). `keys` are not used.

        Errors: `ConfigError` when `baseline` does not match the images' number of channels.
        """
        places, weights = quadrature(self.rule, self.steps)
        baseline = level_image(self.baseline, images)

        def path(chosen: Tensor, _: Tensor, first: int, count: int) -> Tensor:
            shares = images.new_tensor(places[first : first + count]).reshape(1, -1, 1, 1, 1)
            return baseline + shares * (chosen - baseline).unsqueeze(1)

        maps = weighted_gradients(
            model, images, targets, keys, points=path, weights=weights, output=self.output, chunk=self.chunk
        )
        return maps * (images - baseline) if self.multiply_by_input else maps


def quadrature(rule: Rule, steps: int) -> tuple[list[float], list[float]]:
    """Points in [0, 1] and weights that sum to 1 of a quadrature rule."""
    if rule == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return [float(point) for point in (1 + points) / 2], [float(weight) for weight in weights / 2]
    shift = 1.0 if rule == "riemann_right" else 0.5
    return [(index + shift) / steps for index in range(steps)], [1.0 / steps] * steps
