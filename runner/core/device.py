"""The device that a setting names."""

from __future__ import annotations

import torch

from runner.core.errors import ConfigError, require


def usable_device(name: str) -> torch.device:
    """The device; `auto` is a GPU if there is one. Errors: `ConfigError` for a device that does not exist."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: allowed are auto, cpu, cuda, cuda:N") from None
    require(device.type in ("cpu", "cuda"), "device", name, "auto, cpu, cuda or cuda:N")
    there = device.type != "cuda" or torch.cuda.is_available()
    require(there, "device", name, "auto or cpu: this machine has no usable GPU")
    return device
