"""A caller's model, lent to a search: in evaluation mode and frozen meanwhile, and handed back as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from runner.core.attention import twice_differentiable_attention
from runner.core.device import usable_device
from runner.core.errors import require


@contextmanager
def borrowed(model: nn.Module, device: str | torch.device | None = None) -> Iterator[tuple[nn.Module, torch.device]]:
    """The model in evaluation mode with frozen parameters, and its device; afterwards its modes and `requires_grad` are restored.

    Meanwhile gradients are on and autocast is off, whatever the caller has set: numbers must not depend on where a call stands; and
    attention can be differentiated twice.
    On another device than its own a copy is lent. Errors: `ConfigError` for no module, one that was scripted or has no weights
    yet, a model on several devices, and a device that does not exist.
    """
    require(isinstance(model, nn.Module), "model", type(model).__name__, "a torch.nn.Module")
    scripted = isinstance(model, torch.jit.ScriptModule)
    require(not scripted, "model", type(model).__name__, "the module from before torch.jit, which cannot be copied")
    lazy = any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters())
    require(not lazy, "model", "without weights (a lazy layer)", "called once, which makes them")
    own = _device_of(model)
    wanted = own if device is None else usable_device(str(device))
    lent = model if wanted == own else copy.deepcopy(model).to(wanted)
    modes = {module: module.training for module in lent.modules()}
    grads = {parameter: parameter.requires_grad for parameter in lent.parameters()}
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(wanted.type, enabled=False),
            twice_differentiable_attention(),
        ):
            yield lent.eval().requires_grad_(False), wanted
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, needed in grads.items():
            parameter.requires_grad_(needed)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The floating type of its parameters; float32 for a model without any. Errors: `ConfigError` for half precision."""
    found = next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)
    require(found in (torch.float32, torch.float64), "model", f"of {found}", "of float32 or float64: model.float()")
    return found


def _device_of(model: nn.Module) -> torch.device:
    found = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    names = ", ".join(sorted(map(str, found)))
    require(len(found) <= 1, "model", f"on {names}", "on one device: model.to(DEVICE)")
    return next(iter(found), torch.device("cpu"))
