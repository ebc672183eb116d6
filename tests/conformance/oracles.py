"""What the values of a plug-in are compared with: the line `# Oracle: dotted.path` of its YAML's opening comment.

A path into Captum is a class, called with the options that it shares with the plug-in; one into scipy is a function of two
flat maps; any other is a function of our own, under tests/, called with the plug-in and what the plug-in is called with.
"""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from found import Plugin
from torch import Tensor, nn

from runner.attributions.baseline import level_image

Oracle = Callable[..., Tensor]


def oracle_of(plugin: Plugin) -> Oracle | None:
    """(plug-in, *what it is called with) -> the values to expect; None where the YAML names no oracle."""
    if plugin.oracle is None:
        return None
    module, _, name = plugin.oracle.rpartition(".")
    found = getattr(import_module(module), name)
    adapter = {"captum": captum_map, "scipy": scipy_value}.get(module.split(".")[0])
    return partial(adapter, found) if adapter else found


def captum_map(kind: Any, method: Any, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
    """The map of a Captum attribution, its options read off the fields of ours that mean the same."""
    softmax = getattr(method, "output", "logit") == "probability"
    explained = kind(nn.Sequential(model, nn.Softmax(1)) if softmax else model)
    options = {"abs": False, "target": targets}
    if hasattr(method, "baseline"):
        options["baselines"] = level_image(method.baseline, images).expand_as(images).contiguous()
    for ours, theirs in {"steps": "n_steps", "rule": "method"}.items():
        if hasattr(method, ours):
            options[theirs] = getattr(method, ours)
    for ours, theirs in {"window": "sliding_window_shapes", "stride": "strides"}.items():
        if hasattr(method, ours):
            options[theirs] = (images.shape[1], getattr(method, ours), getattr(method, ours))
    taken = inspect.signature(explained.attribute).parameters
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of its hooks
        leaf = images.clone().requires_grad_()
        maps = explained.attribute(leaf, **{name: value for name, value in options.items() if name in taken})
    return maps.detach()


def scipy_value(function: Any, metric: Any, reference: Tensor, other: Tensor, *_: Any) -> Tensor:
    """(N,) values of a scipy function of two flat arrays; of a test's result, the statistic."""
    pairs = zip(reference.double().flatten(1).numpy(), other.double().flatten(1).numpy(), strict=True)
    results = [function(*pair) for pair in pairs]
    return torch.tensor([float(getattr(result, "statistic", result)) for result in results], dtype=torch.float64)
