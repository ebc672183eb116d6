"""Flags that warn when the result of an attack suite should not be trusted, because of its gradients, twin or examples.

In the spirit of Carlini et al. (2019), "On Evaluating Adversarial Robustness", section 5, and of the flags of AutoAttack
(Croce and Hein 2020), for attributions. Comparisons of two searches are paired over the examples, and count if the mean
difference is more than three standard errors above zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runner.core.flags import Flag, as_data

SHARE = 0.1
"""Share of the examples, or of another gain, from which a flag is raised."""
REJECTED = 0.5
"""Largest share of iterates that may be rejected for a flipped label."""
_ERRORS = 3.0


@dataclass(frozen=True)
class Evidence:
    """A suite's findings at E budgets above 0, smallest first, on N examples. Harm: larger is worse for the attribution."""

    epsilons: tuple[float, ...]
    clean: Tensor
    """(N,) harm of the clean images."""
    gradient: Tensor
    """(E, N) the largest harm found by members with the map's own gradient, each from the clean image."""
    random: Tensor | None
    """(E, N) the same of random draws; None without such a member."""
    transfer: Tensor | None
    """(E, N) the same of images that were optimised on other attributions, or None."""
    query: Tensor | None
    """(E, N) the same of members without gradients, except random draws, or None."""
    still: Tensor
    """(E, N) whether all gradient members have zero gradients at a random point of the ball."""
    rejected: Tensor
    """(E, N) share of the iterates that flipped the label."""
    twin_gain: Tensor
    """(E, N) harm that the gradient members' images do to the map of the twin."""
    twin_cosine: Tensor
    """(N,) cosine of the clean maps of the model and of its nearest twin."""
    noisy: bool
    """Whether the maps depend on random draws."""
    expectation: bool
    """Whether gradients are averaged over those draws, in one step or over the steps."""
    least_examples: int = 20
    least_cosine: float = 0.9


def raised(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """All flags by name, raised or not, as plain data."""
    return as_data({name: check(evidence) for name, check in CHECKS.items()})


def _no_second_order(evidence: Evidence) -> Flag:
    share = evidence.still.double().mean(dim=1)
    return _over(evidence, share, SHARE, "the second-order gradient is zero: no gradient attack can work")


def _random_beats_gradient(evidence: Evidence) -> Flag:
    says = "random draws do more harm than gradients: the gradients mislead"
    return _excess(evidence, evidence.random, evidence.gradient, says)


def _transfer_beats_white_box(evidence: Evidence) -> Flag:
    says = "images found on other attributions do more harm than the map's own gradients"
    return _excess(evidence, evidence.transfer, evidence.gradient, says)


def _larger_budget_smaller_change(evidence: Evidence) -> Flag:
    """Each budget is searched from the clean image, which reveals a search that fails in a larger ball."""
    found = [
        part for part in (evidence.gradient, evidence.random, evidence.transfer, evidence.query) if part is not None
    ]
    most = torch.stack(found).amax(dim=0)
    says = "a larger budget finds less harm than a smaller one: the search does not converge"
    return _excess(evidence, torch.cat((most[:1], most[:-1])), most, says)


def _masked(evidence: Evidence) -> Flag:
    """Gradients gain, on their own twin, less than a tenth of what other members' images gain on the model."""
    foreign = [part for part in (evidence.transfer, evidence.query) if part is not None]
    if not foreign:
        return _unknown("nothing to compare the gradients with: the suite has no member that transfers or queries")
    gain = torch.stack(foreign).amax(dim=0).double().sub(evidence.clean).mean(dim=1)
    own = evidence.twin_gain.double().nanmean(dim=1).nan_to_num()
    hidden = torch.where(gain > 0, 1 - own / gain.clamp_min(1e-12), 0.0)
    says = "gradients are masked: they gain nothing on the twin, and images from elsewhere do harm"
    return _over(evidence, hidden, 1 - SHARE, says)


def _no_expectation(evidence: Evidence) -> Flag:
    blind = evidence.noisy and not evidence.expectation
    says = "the attribution is stochastic and one draw of its noise is attacked (attack.members.*.draws=common without eot)"
    return Flag(says, float(blind), 1.0, evidence.epsilons if blind else (), blind)


def _far_twin(evidence: Evidence) -> Flag:
    cosine = float(evidence.twin_cosine.double().nanmean().nan_to_num())
    tripped = cosine < evidence.least_cosine
    says = "the softplus twin's maps are not those of the model: its gradients are of another function"
    return Flag(says, cosine, evidence.least_cosine, evidence.epsilons if tripped else (), tripped)


def _labels_flip(evidence: Evidence) -> Flag:
    share = evidence.rejected.double().mean(dim=1)
    return _over(
        evidence, share, REJECTED, "most iterates flip the label and are rejected: what is left is no full search"
    )


def _few_examples(evidence: Evidence) -> Flag:
    """Counts the examples with at least one iterate that kept the label; for others there is nothing to keep."""
    left = evidence.rejected.lt(1).sum(dim=1).double()
    tripped = left < evidence.least_examples
    says = "too few examples are left on which any iterate kept the label"
    return Flag(says, float(left.min()), evidence.least_examples, _where(evidence, tripped), bool(tripped.any()))


CHECKS: Mapping[str, Callable[[Evidence], Flag]] = {
    "no_second_order_signal": _no_second_order,
    "random_beats_gradient": _random_beats_gradient,
    "transfer_beats_white_box": _transfer_beats_white_box,
    "larger_budget_smaller_change": _larger_budget_smaller_change,
    "masked_gradients": _masked,
    "stochastic_without_expectation": _no_expectation,
    "twin_too_far": _far_twin,
    "labels_flip": _labels_flip,
    "few_examples": _few_examples,
}


def _excess(evidence: Evidence, stronger: Tensor | None, weaker: Tensor, says: str) -> Flag:
    """How many standard errors the mean of `stronger - weaker` (E, N) is above zero."""
    if stronger is None or stronger.shape[1] < 2:
        return _unknown(f"{says} (not looked for: no such member, or a single example)")
    difference = stronger.double() - weaker.double()
    error = difference.std(dim=1) / difference.shape[1] ** 0.5
    return _over(evidence, difference.mean(dim=1) / error.clamp_min(1e-12), _ERRORS, says)


def _over(evidence: Evidence, values: Tensor, bound: float, says: str) -> Flag:
    values = values.nan_to_num()  # no examples: nothing measured
    tripped = values > bound
    return Flag(says, float(values.max()), bound, _where(evidence, tripped), bool(tripped.any()))


def _where(evidence: Evidence, tripped: Tensor) -> tuple[float, ...]:
    return tuple(epsilon for epsilon, hit in zip(evidence.epsilons, tripped.tolist(), strict=True) if hit)


def _unknown(says: str) -> Flag:
    return Flag(says, 0.0, 0.0, (), False)
