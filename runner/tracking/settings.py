"""The `tracking` group of the config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from runner.core.errors import ConfigError, require

Mode = Literal["online", "offline", "disabled"]
_MODES: tuple[Mode, ...] = get_args(Mode)
_METADATA_KEYS = {"name"}
_NOT_IN_NAMES = r"/\#?%:"
"""Characters that W&B allows in no project's name."""


@dataclass(frozen=True)
class TrackingSettings:
    """The `tracking` group of the config. Errors: `ConfigError` naming the key."""

    # online: needs a login and a network, and falls back to offline; disabled: writes nothing
    mode: Mode = "offline"
    # W&B project and team; entity null is the login's own team
    project: str = "attribution-robustness"
    entity: str | None = None
    # W&B keeps its files in the folder `wandb` below this one; null: below the run's own folder
    dir: str | None = "outputs"
    tags: Sequence[str] = ()
    # larger tables are sampled down to this many rows; the full table is in the rows artifact
    max_table_rows: int = 10_000
    # let W&B store the program, the git remote and uncommitted changes
    save_code: bool = False
    # let W&B sample CPU, memory and GPU use
    system_metrics: bool = False
    # seconds to wait for the server at the start and for uploads at the end (online only)
    start_timeout: float = 60.0
    finish_timeout: float = 300.0

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ConfigError.choice("tracking.mode", self.mode, _MODES)
        named = 0 < len(self.project) <= 128 and not set(self.project) & set(_NOT_IN_NAMES)
        allowed = f"the name of a project: 1 to 128 characters, none of {_NOT_IN_NAMES}"
        require(named, "tracking.project", self.project, allowed)
        team = self.entity is None or bool(re.fullmatch(r"[A-Za-z0-9_.-]+", self.entity))
        require(team, "tracking.entity", self.entity, "the name of a team (letters, digits and ._-), or null")
        valid_tags = not isinstance(self.tags, str) and all(0 < len(str(tag)) <= 64 for tag in self.tags)
        require(valid_tags, "tracking.tags", self.tags, "a list of words of 1 to 64 characters")
        require(self.max_table_rows >= 1, "tracking.max_table_rows", self.max_table_rows, "at least 1")
        require(self.start_timeout > 0, "tracking.start_timeout", self.start_timeout, "above 0 (seconds)")
        require(self.finish_timeout > 0, "tracking.finish_timeout", self.finish_timeout, "above 0 (seconds)")

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> TrackingSettings:
        """The settings of a `tracking` config node."""
        allowed = {item.name for item in fields(cls)}
        for key in sorted(set(settings) - allowed - _METADATA_KEYS):
            raise ConfigError.choice("tracking", key, allowed)
        return cls(**{key: value for key, value in settings.items() if key in allowed})
