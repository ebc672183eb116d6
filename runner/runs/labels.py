"""Labels of a run: its options by name, for folders, columns and legends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.core.config import Config

COMMON = frozenset(
    {"best", "last", "latest", "final", "model", "model_best", "checkpoint", "ckpt", "weights", "state_dict"}
)
"""Names that every training gives its files: their folder tells them apart."""


def option_label(config: Config, group: str) -> str:
    """An option's name; with the network or function that it is told to take, if it takes any: own_MyNet, timm_vit_tiny."""
    node = config[group]
    taken = node.get("architecture") or node.get("target")
    return str(node["name"]) if not isinstance(taken, str) else f"{node['name']}_{taken.rpartition('.')[2]}"


def weights_label(config: Config) -> str | None:
    """The name of the file that a model's weights are from; None without such a file."""
    stated = config["model"].get("weights")
    path = Path(str(stated)).expanduser()
    if not stated or not path.is_file():
        return None
    return f"{path.absolute().parent.name}/{path.stem}" if path.stem.lower() in COMMON else path.stem


def names(config: Config, groups: tuple[str, ...]) -> dict[str, Any]:
    """The columns that name a run's options, and `weights` where they are from a file."""
    weights = weights_label(config)
    return {group: option_label(config, group) for group in groups} | ({} if weights is None else {"weights": weights})


def folder_labels(config: Config, groups: tuple[str, ...]) -> list[str]:
    """The beginning of a run's folder: its options by name; a weights file comes after its model."""
    columns = names(config, groups)
    weights = columns.pop("weights", None)
    return [label if group != "model" or weights is None else f"{label}_{weights}" for group, label in columns.items()]
