"""Launch the missing cells of a sweep in several processes of this machine."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.runner_sweeps.planning import plan_of, returns
from runner.core.errors import require


class LocalLauncher(Launcher):
    """Skips finished cells, trains each model once before the attacks that need it, and reports at the end."""

    def __init__(self, processes: int | None = None, dry_run: bool = False) -> None:
        require(processes is None or processes >= 1, "hydra.launcher.processes", processes, "at least 1, or null")
        self.processes = processes or max((os.cpu_count() or 1), 1)
        self.dry_run = dry_run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Bring the store to the state that the sweep describes."""
        plan = plan_of(self.hydra_context, self.config, job_overrides)
        from runner.jobs import sweep, workers

        if self.dry_run:
            sys.exit(sweep.show(plan, self.processes))
        plan.record()
        failures = workers.run_local(plan, self.processes)
        sweep.finish(plan, failures)
        return returns(plan, failures)


@dataclass
class LocalLauncherConfig:
    """Options of `hydra/launcher=local`."""

    _target_: str = "hydra_plugins.runner_sweeps.local.LocalLauncher"
    # Worker processes; null for one a core. The cores' threads are shared out over them.
    processes: int | None = None
    # Show what is done, missing, failed and stale, and what the rest will take; run nothing. Exit code 0 (all done) or 3.
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConfig, provider="runner")
