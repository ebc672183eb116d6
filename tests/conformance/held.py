"""A loss with all that it takes as constant held constant, so that its finite differences are those that autograd means.

A training step finds images by a search, detaches directions, iterates without a graph. Autograd takes the results for
constants; finite differences would see them move. Here a first call remembers every such result, in their order, and later
calls get the same ones back: what `detach` returns, what is computed in `no_grad`, gradients taken without a graph.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Held(TorchFunctionMode):
    """Within it, constants are remembered (`replaying = False`) or given back in the order in which they were found."""

    def __init__(self, remembered: list[Any] | None = None) -> None:
        super().__init__()
        self.replaying, self.remembered, self.place = remembered is not None, remembered or [], 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not _constant(function, kwargs or {}, result):
            return result
        if not self.replaying:
            self.remembered.append(_copied(result))
            return result
        held = _copied(self.remembered[self.place])
        self.place += 1
        return held


def _constant(function: Any, options: dict[str, Any], result: Any) -> bool:
    """Whether autograd sees a constant where a value was computed; what is not a float has no slope anyway."""
    if function is torch.autograd.grad:
        return not options.get("create_graph", False)
    floats = isinstance(result, Tensor) and result.is_floating_point()
    inplace = getattr(function, "__name__", "").endswith("_")
    return floats and not inplace and (not torch.is_grad_enabled() or function is Tensor.detach)


def _copied(result: Any) -> Any:
    return tuple(map(_copied, result)) if isinstance(result, tuple) else result.detach().clone()
