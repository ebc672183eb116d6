"""Reads weights from files without executing code from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.store.saved_state import load_plain

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_NESTS = ("state_dict", "model_state_dict", "model")
_SAFE = "a safetensors file, or a torch file that holds tensors only"


def load_weights(model: nn.Module, source: str | Path) -> nn.Module:
    """Load the weights of a safetensors or state_dict file into `model`, in place; returns it.

    A state_dict may be that of the bare network (without normalisation), be nested in `state_dict` or `model`, or have the prefix
    `module.` of DataParallel. Errors: `ConfigError` naming model.weights for a missing file, a file that would execute code, or
    names or shapes that do not match.
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
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    fits = isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values())
    require(bool(fits), "model.weights", path, _SAFE)
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state into `model` or, when the names fit that better, into its `network`. Errors: `ConfigError`."""
    network = getattr(model, "network", None)
    if isinstance(network, nn.Module) and not any(name.startswith("network.") for name in state):
        model = network
    expected = model.state_dict()
    # old checkpoints lack the counter of batches, which only a cumulative average reads
    missing = sorted(name for name in expected.keys() - state.keys() if not name.endswith("num_batches_tracked"))
    unknown = sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    complaints = [f"{what} {_few(names)}" for what, names in (("lacks", missing), ("has unknown", unknown)) if names]
    complaints += [_few(wrong)] if wrong else []
    if complaints:
        raise ConfigError(f"model.weights={source}: does not fit this model: {'; '.join(complaints)}")
    model.load_state_dict(dict(state), strict=False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
