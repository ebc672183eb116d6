"""Beta-smoothing: the gradient of the network with soft activations, a defense that only changes the explanation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from runner.attributions.options import GradientOptions
from runner.attributions.saliency import Saliency
from runner.core.errors import ConfigError, require, require_positive

TwinFactory = Callable[[nn.Module, float, bool], nn.Module]
"""(model, beta, whether softplus activations get it too) -> the model with softplus for every ReLU, sharing the weights."""


@dataclass(frozen=True, kw_only=True)
class BetaSmoothing(GradientOptions):
    """d g_c / dx, g the model with softplus_beta(x) = log(1 + exp(beta x)) / beta for its ReLUs (Dombrowski et al., 2019).

    Predictions stay those of the model. Existing softplus activations get this `beta` too, so a model and its softplus twin have
    the same map, and an attack on the twin uses the true gradient.
    """

    twin: TwinFactory
    beta: float = 1.0
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(callable(self.twin), "attribution.twin", self.twin, "a function (model, beta) -> its softplus twin")
        require_positive("attribution.beta", self.beta)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; `keys` are not used. Errors: `ConfigError` of the twin, as for ReLU6 and a small beta."""
        saliency = Saliency(output=self.output, multiply_by_input=self.multiply_by_input, chunk=self.chunk)
        try:
            return saliency(self.twin(model, self.beta, True), images, targets, keys)
        except ConfigError as error:  # the error of a twin names the key of attacks
            raise ConfigError(str(error).replace("attack.beta", "attribution.beta")) from error
