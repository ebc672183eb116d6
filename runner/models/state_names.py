"""Matches the names of a checkpoint with those of a model: prefixes of wrappers, copies, and normalisation layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.")
"""What DataParallel, Lightning, torch.compile and common wrappers put before every name; they may be stacked."""

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """The part of a model that a state fits best, and the state in that part's names."""

    holder: nn.Module
    state: dict[str, Tensor]
    prefix: str
    """What was before the names in the file."""

    @property
    def missing(self) -> list[str]:
        """Names that the state lacks. Old checkpoints lack the counter of batches, which only a cumulative average reads."""
        names = self.holder.state_dict().keys() - self.state.keys()
        return sorted(name for name in names if not name.endswith("num_batches_tracked"))

    @property
    def unknown(self) -> list[str]:
        """Names that the model does not have."""
        return sorted(self.state.keys() - self.holder.state_dict().keys())

    @property
    def wrong(self) -> list[str]:
        """What differs in shape, in words."""
        pairs = [(name, self.state[name], own) for name, own in self.holder.state_dict().items() if name in self.state]
        return [f"{name} is {list(a.shape)}, not {list(b.shape)}" for name, a, b in pairs if a.shape != b.shape]


def best_fit(model: nn.Module, state: State) -> Fit:
    """The fit of `state` to `model`, or to its `network`, with most names in common; without a prefix where that is as good."""
    network = getattr(model, "network", None)
    holders = [network, model] if isinstance(network, nn.Module) else [model]
    fits = [Fit(holder, renamed, prefix) for holder in holders for prefix, renamed in _renamed(state)]
    return max(fits, key=lambda fit: (len(fit.state) - len(fit.unknown), -len(fit.prefix)))


def says_nothing_new(name: str, fit: Fit, model: nn.Module) -> bool:
    """Whether nothing is lost without an unknown name: it is a copy of a known one, or the model normalises by the same numbers."""
    value = fit.state[name]
    known = next(
        (other for other in fit.holder.state_dict() if name.endswith(f".{other}") and other in fit.state), None
    )
    if known is not None:
        return torch.equal(value, fit.state[known])
    own = getattr(getattr(model, "normalise", None), normalising(name) or "", None)
    if not isinstance(own, Tensor):
        return False
    values, wanted = value.flatten().double(), own.flatten().double()
    return len(wanted) in (1, len(values)) and torch.allclose(values, wanted.expand(len(values)), atol=1e-6)


def normalising(name: str) -> str | None:
    """`mean` or `std` for a buffer of a normalisation layer, such as normalizer.new_mean; None for any other name."""
    layer, _, last = name.lower().rpartition(".")
    kind = next((kind for kind in ("mean", "std") if last.endswith(kind)), None)
    return kind if not last.startswith("running") and (layer == "" or "norm" in layer.rpartition(".")[2]) else None


def _renamed(state: State) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(prefix, the state without it) for no prefix and every stack of prefixes before some names, the shortest first."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop(0)
        renamed = {name.removeprefix(prefix): value for name, value in state.items()}
        if len(renamed) == len(state):
            yield prefix, renamed
        waiting += [prefix + more for more in PREFIXES if any(name.startswith(prefix + more) for name in state)]
