"""Execute the missing runs of a sweep in several processes on this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore

from runner.core.errors import require
from runner.sweeps.launching import SweepLauncher

if TYPE_CHECKING:
    from runner.sweeps.plan import Plan


class LocalLauncher(SweepLauncher):
    """Trains each model once before the attacks that need it."""

    def __init__(self, processes: int | None = None, dry_run: bool = False) -> None:
        super().__init__(dry_run)
        require(processes is None or processes >= 1, "hydra.launcher.processes", processes, "at least 1, or null")
        self.processes = processes

    @property
    def slots(self) -> int:
        """Worker processes."""
        return self.processes or max((os.cpu_count() or 1), 1)

    def execute(self, plan: "Plan") -> Mapping[Path, str]:
        """Execute all missing runs before returning."""
        from runner.sweeps.local.workers import run_local

        return run_local(plan, self.slots)


@dataclass
class LocalLauncherConfig:
    """Options of `hydra/launcher=local`; conf/hydra/launcher/local.yaml says what they mean."""

    _target_: str = "hydra_plugins.runner_sweeps.local.LocalLauncher"
    processes: int | None = None
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="runner_local", node=LocalLauncherConfig, provider="runner")
