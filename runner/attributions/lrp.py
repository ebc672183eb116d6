"""Layer-wise relevance propagation: distributes the logit backwards, layer by layer, over the inputs of each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.attributions.linearity import require_rules
from runner.attributions.options import amount
from runner.attributions.propagation import Ruled, record, replay, with_slope
from runner.attributions.relevance import Relevance, RuleSet, Sharing
from runner.attributions.saliency import Saliency
from runner.core.errors import require_at_least
from runner.core.grid import Number

First = Literal["box"]


@dataclass(frozen=True, kw_only=True)
class LayerwiseRelevance:
    """Relevance of the normalised pixels (Bach et al., 2015), which is also that of the pixels.

    A weighted layer z_k = sum_j a_j w_jk + b_k distributes R_k to its inputs by one of three rules, all with `epsilon` added to
    the denominator with its sign (Montavon et al., 2019, section 10.2). `convolution` names the rule for convolutions, `dense`
    the rule for linear layers:

    - epsilon: a_j w_jk / z_k;
    - gamma: (a_j w_jk + gamma (a_j w_jk)^+) / (z_k + gamma z_k^+) if z_k > 0, else with ^- instead of ^+, so that no share
      explodes for any signs of a and z; for a >= 0 and z > 0 this is the rule of the paper. z^+ includes a positive bias;
    - z_plus: the limit of a large gamma (alpha 1, beta 0).

    `first: box` uses the z^B rule for pixels in [0, 1] in the first weighted layer, with a normalised box and no share for the
    bias; null uses the rule of its kind. A batch normalisation is merged into the layer before it. An activation passes on all of
    its relevance: f(z) / z for each unit of z. That has a pole at 0 if f(0) is not 0, so for softplus it is
    z f(z) / (z^2 + f(0)^2), which is the same further away and approaches that of ReLU as beta grows. Max-pooling assigns all
    relevance to the largest input; sums, averages, and batch normalisations without a layer before them use `epsilon` with
    epsilon 0. Biases keep their shares. The maps explain the logit.
    """

    convolution: Sharing = "gamma"
    dense: Sharing = "epsilon"
    first: First | None = "box"
    gamma: Number = 0.25
    epsilon: Number = 0.0
    chunk: int | None = None
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least("attribution.chunk", self.chunk, 1)
        amount("attribution.gamma", self.gamma)
        amount("attribution.epsilon", self.epsilon)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps that sum to the logit minus the shares of biases and epsilon. `keys` are not used.

        Errors: `ConfigError` naming a layer without a rule.
        """
        normalise, network = _parts(model)
        gamma, epsilon = amount("attribution.gamma", self.gamma), amount("attribution.epsilon", self.epsilon)
        chosen = RuleSet(self.convolution, self.dense, gamma, epsilon)

        def run(places: Tensor) -> Tensor:
            pixels = normalise(places)
            calls = record(network, pixels, "" if network is model else "network")
            box = [normalise(torch.full_like(places[:1], level)) for level in (0.0, 1.0)] if self.first else []
            # signals become relevance here; with the box rule they already are
            entered = with_slope(pixels, places, torch.ones_like(pixels) if box else pixels)
            return replay(network, entered, calls, Relevance(chosen, calls, pixels, box))

        return Saliency(chunk=self.chunk)(Ruled(model, run), images, targets, keys)

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """True. Errors: `ConfigError` naming a layer without a rule."""
        normalise, network = _parts(model)
        require_rules(network, normalise(images), "" if network is model else "network")
        return True


def _parts(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The normalisation and the network of a model of this project; any other model counts as the network itself."""
    normalise, network = getattr(model, "normalise", None), getattr(model, "network", None)
    if isinstance(normalise, nn.Module) and isinstance(network, nn.Module):
        return normalise, network
    return nn.Identity(), model
