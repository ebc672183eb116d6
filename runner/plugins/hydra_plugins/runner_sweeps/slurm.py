"""Launch the missing cells of a sweep as one SLURM array, on top of hydra-submitit-launcher."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititSlurmLauncher

from hydra_plugins.runner_sweeps.planning import plan_of, returns


class SlurmLauncher(SubmititSlurmLauncher):
    """Skips finished cells, submits the missing ones as one array and reports when all have ended."""

    def __init__(self, dry_run: bool = False, **params: Any) -> None:
        super().__init__(**params)
        self.dry_run = dry_run

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Bring the store to the state that the sweep describes."""
        plan = plan_of(self.hydra_context, self.config, job_overrides)
        from runner.jobs import sweep

        if self.dry_run:
            sys.exit(sweep.show(plan, int(self.params["array_parallelism"])))
        plan.record()
        missing = plan.missing()
        jobs = super().launch([job_overrides[place] for place in missing], initial_job_idx) if missing else []
        failures: dict[Path, str] = {}
        for place, job in zip(missing, jobs, strict=True):
            try:
                _ = job.return_value
            except Exception as error:
                failures[Path(" ".join(job_overrides[place]))] = f"{type(error).__name__}: {error}".splitlines()[0]
        sweep.finish(plan, failures)
        return returns(plan, failures)


@dataclass
class SlurmLauncherConfig(SlurmQueueConf):
    """Options of `hydra/launcher=slurm`: those of hydra-submitit-launcher, and `dry_run`."""

    _target_: str = "hydra_plugins.runner_sweeps.slurm.SlurmLauncher"
    # Show what is done, failed and missing; submit nothing. Exit code 0 (all done) or 3.
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="runner_slurm", node=SlurmLauncherConfig, provider="runner")
