"""Reads weights from files without executing code from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.models.state_names import best_fit, normalising, says_nothing_new
from runner.store.saved_state import load_plain

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_NESTS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "params"),
    *("ema", "model_ema", "state_dict_ema", "params_ema", "ema_state_dict"),
)
"""Names under which training programs keep the weights in a checkpoint, the first that is there counts."""
log = logging.getLogger(__name__)

_SAFE = "a safetensors file, or a torch file that holds tensors only"


def load_weights(model: nn.Module, source: str | Path) -> nn.Module:
    """Load the weights of a safetensors or state_dict file into `model`, in place; returns it.

    A state_dict may be that of the bare network (without normalisation), be nested in a checkpoint under one of the usual names,
    and have prefixes such as `module.` before its names. Errors: `ConfigError` naming model.weights for a missing file, a file
    that would execute code, or names or shapes that do not match.
    """
    path = Path(source).expanduser()
    require(path.is_file(), "model.weights", source, f"the path of an existing file ({', '.join(SUFFIXES)})")
    load_state(model, read_state(path), str(source))
    return model


def read_state(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU. Errors: `ConfigError` when the file is damaged or holds anything but tensors."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = load_plain(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ConfigError(f"model.weights={path}: cannot be loaded ({error}); must be {_SAFE}") from error
    content = _nested(content)
    require(_is_state(content), "model.weights", path, _SAFE)
    return {str(name): tensor for name, tensor in content.items()}


def _nested(content: Any) -> Any:
    """The state inside a checkpoint: under a usual name, or else the only mapping of tensors in it."""
    if not isinstance(content, Mapping) or _is_state(content):
        return content
    usual = [_nested(content[nest]) for nest in _NESTS if isinstance(content.get(nest), Mapping)]
    others = [value for value in content.values() if _is_state(value)]
    found = next(filter(_is_state, usual), None)
    return found or (others[0] if len(others) == 1 else content)


def _is_state(content: Any) -> bool:
    filled = isinstance(content, Mapping) and bool(content)
    return filled and all(isinstance(value, Tensor) for value in content.values())


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state into `model` or, when the names fit that better, into its `network`. Errors: `ConfigError`."""
    fit = best_fit(model, state)
    spare = [name for name in fit.unknown if says_nothing_new(name, fit, model)]
    unknown = [name for name in fit.unknown if name not in spare]
    complaints = [
        f"{what} {_few(names)}" for what, names in (("lacks", fit.missing), ("has unknown", unknown)) if names
    ]
    complaints += [_few(fit.wrong)] if fit.wrong else []
    complaints += [f"it normalises by {_numbers(state, names)}"] if (names := [*filter(normalising, unknown)]) else []
    if complaints:
        raise ConfigError(f"model.weights={source}: does not fit this model: {'; '.join(complaints)}")
    if fit.prefix or spare:
        left = f", and without {_few(spare)}, which say nothing new" if spare else ""
        _say(f"model.weights={source}: fits this model without the prefix '{fit.prefix}'{left}")
    known = {name: value for name, value in fit.state.items() if name not in fit.unknown}
    fit.holder.load_state_dict(known, strict=False)


@cache
def _say(line: str) -> None:
    """Log a line once in a process: a model is built several times."""
    log.info(line)


def _numbers(state: Mapping[str, Tensor], names: list[str]) -> str:
    """The numbers of normalisation layers, as model.mean and model.std take them."""
    found: dict[str, list[float]] = {}
    for name in names:
        value = next(tensor for full, tensor in state.items() if full.endswith(name))
        found.setdefault(f"model.{normalising(name)}", [round(float(number), 6) for number in value.flatten()[:4]])
    return " ".join(f"{key}=[{','.join(map(str, values))}]" for key, values in found.items())


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
