"""A basic sweeper with zipped axes: lists of mappings that vary together, beside the usual product of `params`."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override

from runner.core.errors import ConfigError

Zipped = Mapping[str, Sequence[Mapping[str, Any]]]


class ZippedSweeper(BasicSweeper):
    """The product of `params` and of the zipped axes; whatever the command line sets wins over both.

    `defense=ssr` on the command line takes the points of a zipped axis `defense` that have it, with their other settings.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        zipped: Zipped | None = None,
        skip_if: Sequence[str] = (),
    ) -> None:
        super().__init__(max_batch_size, params)
        self.zipped, self.skip_if = zipped or {}, skip_if  # our launchers skip: a condition is about a composed config

    def sweep(self, arguments: list[str]) -> Any:
        """Refuse a name or a folder that cannot be made, then launch. A dry run leaves the store as it is."""
        from runner.jobs.checks import check_sweep

        assert self.config is not None
        check_sweep(self.config.sweep, self.config.outputs)
        with TemporaryDirectory(prefix="runner-") as elsewhere:
            if self.config.hydra.launcher.get("dry_run"):
                self.config = copy.deepcopy(self.config)
                self.config.hydra.sweep.dir = (
                    elsewhere  # Hydra writes its multirun.yaml there; the launcher has its own config
                )
            return super().sweep(arguments)

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Batches of cells, each a list of overrides."""
        product = BasicSweeper.split_arguments(overrides, None)[0]
        given = {override.get_key_element().lstrip("+") for override in overrides}
        cells = [joined for cell in product for joined in self._joined(cell, given)]
        unique = list({tuple(cell): cell for cell in cells}.values())
        return list(BasicSweeper.split_overrides_to_chunks(unique, max_batch_size))

    def _joined(self, cell: list[str], given: set[str]) -> list[list[str]]:
        """The cell with each point of the zipped axes."""
        axes = [
            [_settings(name, point, given) for point in _fitting(name, points, cell)]
            for name, points in self.zipped.items()
        ]
        return [[*cell, *itertools.chain(*points)] for points in itertools.product(*axes)]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing here: our launchers compose and check every cell themselves before the first one runs."""


def _fitting(name: str, points: Sequence[Mapping[str, Any]], cell: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The points of an axis; only those of the option that the cell names, where it names one (`defense=ssr`)."""
    named = [text.removeprefix(f"{name}=") for text in cell if text.startswith(f"{name}=")]
    if not named:
        return points
    return [point for point in points if isinstance(point, Mapping) and _text(point.get(name)) == named[-1]] or [{}]


def _settings(name: str, point: Mapping[str, Any], given: set[str]) -> list[str]:
    if not isinstance(point, Mapping):
        raise ConfigError(f"hydra.sweeper.zipped.{name}: every point must be a mapping of keys to values")
    return [f"{key}={_text(value)}" for key, value in point.items() if key not in given]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class ZippedSweeperConfig:
    """Options of the sweeper, set in a sweep's YAML under `hydra.sweeper`."""

    _target_: str = "hydra_plugins.runner_sweeps.sweeper.ZippedSweeper"
    # Cells launched at once; null for all.
    max_batch_size: int | None = None
    # Axes whose product is taken: key to a comma-separated list, as on the command line.
    params: dict[str, Any] | None = None
    # Axes whose keys vary together: a name to a list of mappings from key to value.
    zipped: dict[str, Any] = field(default_factory=dict)
    # Cells that make no sense: conditions on their configs, as "defense.name == 'none' and attack.steps > 7".
    skip_if: list[str] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="zipped", node=ZippedSweeperConfig, provider="runner")
