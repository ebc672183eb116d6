"""Where the configs are: next to the package in a checkout, inside it when it is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def conf() -> Path:
    """The folder of the configs that belong to the running code."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def options(group: str) -> list[str]:
    """The options of a group, sorted; what options share (`GROUP/base`) is none."""
    return sorted(path.stem for path in (conf() / group).glob("*.yaml"))
