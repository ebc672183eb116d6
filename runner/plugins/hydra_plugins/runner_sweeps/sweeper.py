"""Hydra's basic sweeper with zipped axes (lists of mappings whose keys vary together), besides the product of `params`."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.grammar.functions import Functions
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.types import ChoiceSweep, Override

from runner.core.decimals import spelled_out
from runner.core.errors import require
from runner.sweeps.zipped_axes import Zipped, joined, spread


class ZippedSweeper(BasicSweeper):
    """The product of `params` and the zipped axes; the command line overrides both.

    `defense=ssr` on the command line selects the points of a zipped axis `defense` with that value, and their other settings.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        zipped: Zipped | None = None,
        skip_if: Sequence[str] = (),
    ) -> None:
        super().__init__(max_batch_size, params)
        batch = max_batch_size is None or max_batch_size >= 1
        require(batch, "hydra.sweeper.max_batch_size", max_batch_size, "at least 1, or null")
        self.zipped, self.skip_if = (
            zipped or {},
            skip_if,
        )  # applied by our launchers, since conditions need composed configs

    def sweep(self, arguments: list[str]) -> Any:
        """Check the sweep's name and folder, then launch. A dry run does not change the store."""
        from runner.runs.config_check import check_sweep

        assert self.config is not None
        self.params = {key: spelled_out(str(value), key) for key, value in self.params.items()}
        arguments = [spelled_out(text, text.split("=", 1)[0].lstrip("+~")) for text in arguments]
        check_sweep(self.config.sweep, self.config.outputs)
        with TemporaryDirectory(prefix="runner-") as elsewhere:
            if self.config.hydra.launcher.get("dry_run"):
                self.config = copy.deepcopy(self.config)
                self.config.hydra.sweep.dir = elsewhere  # for Hydra's multirun.yaml; the launcher has its own config
            return super().sweep(arguments)

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Batches of cells, each a list of overrides."""
        zipped = spread(self.zipped)
        product = BasicSweeper.split_arguments(overrides, None)[0]
        given = {override.get_key_element().lstrip("+") for override in overrides}
        cells = [one for cell in product for one in joined(cell, zipped, given)]
        unique = list({tuple(cell): cell for cell in cells}.values())
        return list(BasicSweeper.split_overrides_to_chunks(unique, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: our launchers compose and check every cell before the first one runs."""


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
    # Cells to leave out: conditions on their configs, as "defense.name == 'none' and attack.steps > 7".
    skip_if: list[str] = field(default_factory=list)


def _allow_decimals() -> None:
    """Make Hydra's grammar accept `decimals(START, STOP, STEP)`, which `sweep` then expands."""
    stock = overrides_parser.create_functions
    if "decimals" in stock().definitions:  # Hydra imports each plug-in module twice
        return

    def with_decimals() -> Functions:
        functions = stock()
        functions.register("decimals", lambda *bounds: ChoiceSweep())
        return functions

    overrides_parser.create_functions = with_decimals


_allow_decimals()
ConfigStore.instance().store(group="hydra/sweeper", name="zipped", node=ZippedSweeperConfig, provider="runner")
