"""Hydra's composition for the many configs of a sweep: reads every YAML file once and records the keys that each file sets."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from runner.sweeps.composition.changes import Composed, Layer
from runner.sweeps.composition.sections import Key, leaves


class SweepLoader(ConfigLoaderImpl):
    """Composes the cells of one sweep; `master` is the config of the sweep itself."""

    def __init__(self, search_path: ConfigSearchPath, master: DictConfig) -> None:
        super().__init__(search_path)
        self.repository = _ReadOnce(search_path)
        self._master = master
        self._known: dict[Layer, frozenset[Key]] = {}
        self._used: dict[Layer, frozenset[Key]] = {}

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The config with these overrides, and the keys that each of its files sets. Errors: Hydra's own."""
        self._used = {}
        return Composed(self.load_sweep_config(self._master, list(overrides)), self._used)

    def compose_freely(self, overrides: Sequence[str]) -> Composed:
        """The same, but overrides may add keys to the config. Errors: Hydra's own."""
        try:
            return self.compose(overrides)
        except ConfigCompositionException:
            return self.compose([*map(self._freely, overrides)])

    def _freely(self, override: str) -> str:
        key = override.split("=", 1)[0]
        plainly = override[0] in "+~" or self.repository.group_exists(key.split("@")[0])
        return override if plainly else f"++{override}"

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        layer = (str(default.config_path), str(default.package))
        result = super()._load_single_config(default, repo)
        if layer not in self._known:
            self._known[layer] = frozenset(_stated(result))
        self._used[layer] = self._known[layer]
        return result


def _stated(result: ConfigResult) -> Iterator[Key]:
    """The keys that a file sets, and the groups in its defaults list."""
    for entry in result.defaults_list or ():
        if isinstance(entry, GroupDefault):
            yield (str(entry.group).lstrip("/"),)
    content = OmegaConf.to_container(result.config, resolve=False)
    yield from (key for key in leaves(content) if key and key[0] != "hydra")


class _ReadOnce(ConfigRepository):
    """Config files, each parsed once for all compositions; Hydra gets copies, which it may change."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        self._parsed: dict[tuple[str, ...], Callable[[], ConfigResult | None]] = {}
        super().__init__(search_path)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A config file, or None if there is none."""
        sources = (f"{source.provider} {source.path}" for source in self.sources)  # hydra.searchpath adds some
        place = (config_path, *sources)
        if place not in self._parsed:
            self._parsed[place] = _copies(super().load_config(config_path))
        return self._parsed[place]()

    def __deepcopy__(self, memo: dict[int, Any]) -> _ReadOnce:
        """The copy that Hydra makes for each composition: its own list of sources, the same parsed files."""
        return copy.copy(self)


def _copies(result: ConfigResult | None) -> Callable[[], ConfigResult | None]:
    """A function that makes copies: by pickle, which is five times as fast, if the config is a plain mapping."""
    if result is None or OmegaConf.get_type(result.config) is not dict:
        return partial(copy.deepcopy, result)
    return partial(pickle.loads, pickle.dumps(result))
