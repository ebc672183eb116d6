"""Names of curves (the defense, told apart where two cells would read the same), their order, and names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd


def slug(*parts: str) -> str:
    """The parts joined by '-', in letters that any file system takes: all but letters, digits, '.', '_', '-' become '_'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def natural_key(name: str) -> list[tuple[int, float, str]]:
    """Sort key that reads numbers as numbers: madry_l2-0.3x7 before madry_l2-0.3x20; the undefended `none` first."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    numbers = [(1, float(part), "") if index % 2 else (2, 0.0, part) for index, part in enumerate(parts)]
    return [(0 if name.split(" ", maxsplit=1)[0] == "none" else 1, 0.0, ""), *numbers]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in natural order."""
    return sorted(set(names), key=natural_key)


def series_names(runs: pd.DataFrame, panel: Sequence[str]) -> dict[str, str]:
    """group_id -> name of its curve: the defense, with a short id where a panel has two cells of that name."""
    names: dict[str, str] = {}
    for key, group in runs.groupby([*panel, "defense"], sort=False, dropna=False):
        ids = sorted(group["group_id"].unique())
        suffixes = _short(ids) if len(ids) > 1 else [""]
        names |= {group_id: f"{key[-1]}{suffix}" for group_id, suffix in zip(ids, suffixes, strict=True)}
    return names


def _short(ids: Sequence[str]) -> list[str]:
    """The shortest prefixes (at least 4 characters) that tell the ids apart."""
    length = 4
    while len({name[:length] for name in ids}) < len(ids):
        length += 1
    return [f" #{name[:length]}" for name in ids]
