"""Names: of curves (the defense, with a short id where two would read the same), of settings, of files; and their order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd


def slug(*parts: str) -> str:
    """The parts joined by '-' as a file name; anything but letters, digits, '.', '_' and '-' becomes '_'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def words(name: str) -> str:
    """A name with spaces for underscores."""
    return name.replace("_", " ")


def setting_title(labels: Mapping[Any, Any]) -> str:
    """Dataset, model and norm."""
    return f"{labels['dataset']} / {labels['model']}, {labels['norm']}"


def budget_phrase(epsilon: float) -> str:
    """A budget within a sentence: 'at ε = 0.3'."""
    return "without a budget" if math.isinf(epsilon) else f"at ε = {epsilon:g}"


def budget_label(epsilon: float, norm: str) -> str:
    """A budget with its norm: 'ε = 0.3 (l2)'."""
    return "without a budget" if math.isinf(epsilon) else f"ε = {epsilon:g} ({norm})"


def is_undefended(name: str) -> bool:
    """Whether a curve is that of the defense `none`, and not of given weights, which may have had any training."""
    return name.split(" #", maxsplit=1)[0] == "none"


def curve_name(labels: Mapping[Any, Any]) -> str:
    """The defense, followed by the weights file that the model started from, if there was one: `none (ckpt_a)`."""
    weights = labels.get("weights")
    return f"{labels['defense']} ({weights})" if isinstance(weights, str) else str(labels["defense"])


def natural_key(name: str) -> list[tuple[int, float, str]]:
    """Sort key that compares numbers by value: madry_l2-0.3x7 before madry_l2-0.3x20; the undefended `none` comes first."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    numbers = [(1, float(part), "") if index % 2 else (2, 0.0, part) for index, part in enumerate(parts)]
    return [(0 if is_undefended(name) else 1, 0.0, ""), *numbers]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in natural order."""
    return sorted(set(names), key=natural_key)


def series_names(runs: pd.DataFrame, panel: Sequence[str]) -> dict[str, str]:
    """group_id -> name of its curve, with a short id where a panel has two configurations of that name."""
    names: dict[str, str] = {}
    named = runs.assign(curve=[curve_name(run) for run in runs.to_dict("records")])
    for key, group in named.groupby([*panel, "curve"], sort=False, dropna=False):
        ids = sorted(group["group_id"].unique())
        suffixes = _short_suffixes(ids) if len(ids) > 1 else [""]
        names |= {group_id: f"{key[-1]}{suffix}" for group_id, suffix in zip(ids, suffixes, strict=True)}
    return names


def _short_suffixes(ids: Sequence[str]) -> list[str]:
    """The shortest prefixes (at least 4 characters) that tell the ids apart, each after ' #'."""
    length = 4
    while len({name[:length] for name in ids}) < len(ids):
        length += 1
    return [f" #{name[:length]}" for name in ids]
