"""Submit the missing runs of a sweep as SLURM arrays, with submitit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf

from runner.core.errors import require
from runner.sweeps.launching import SweepLauncher

if TYPE_CHECKING:
    from runner.sweeps.plan import Plan


_LEAST = {
    **dict.fromkeys(("array_parallelism", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "mem_gb"), 1),
    **dict.fromkeys(("gpus_per_node", "gpus_per_task", "cpus_per_gpu", "max_num_timeout", "signal_delay_s"), 0),
}
"""Least values of options that are numbers."""


class SlurmLauncher(SweepLauncher):
    """Submits the missing runs, inputs first, and waits for them."""

    def __init__(self, dry_run: bool = False, pack: int = 1, detach: bool = False, **params: Any) -> None:
        super().__init__(dry_run)
        require(pack >= 1, "hydra.launcher.pack", pack, "at least 1")
        self.pack, self.detach = pack, detach
        self.params: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in params.items()
        }
        for key, least in _LEAST.items():
            value = self.params.get(key)
            require(value is None or value >= least, f"hydra.launcher.{key}", value, f"at least {least}")

    @property
    def slots(self) -> int:
        """Tasks of an array that run at the same time."""
        return int(self.params["array_parallelism"])

    @property
    def gpus(self) -> int:  # type: ignore[override]
        """GPUs of a task."""
        return int(next((self.params[key] for key in ("gpus_per_node", "gpus_per_task") if self.params.get(key)), 0))

    def before_dry_run(self, plan: "Plan") -> None:
        """Log how many runs of the sweep are queued."""
        from runner.sweeps.slurm.submission import log_queued

        log_queued(self.folder)

    def execute(self, plan: "Plan") -> Mapping[Path, str] | None:
        """Submit the runs that are not queued yet and wait for all of them; with `detach`, return after submitting."""
        from runner.sweeps.slurm import code_snapshot, commands, submission
        from runner.sweeps.slurm.executor import send

        sent = list[submission.SubmittedTask]()
        if plan.tasks:
            commands.require_commands()
            code = code_snapshot.take(self.folder / "code")
            sent = submission.submit(plan, self.folder, self.pack, code, partial(send, options=self.params))
        if self.detach:
            return None
        submission.wait(plan, sent)
        return submission.failures(plan, sent)


@dataclass
class SlurmLauncherConfig(SlurmQueueConf):
    """Options of `hydra/launcher=slurm`: those of hydra-submitit-launcher, and `dry_run`, `pack`, `detach`."""

    _target_: str = "hydra_plugins.runner_sweeps.slurm.SlurmLauncher"
    # Show what is done, failed and missing; submit nothing. Exit code 0 (all done) or 3.
    dry_run: bool = False
    # Runs that each task executes one after the other.
    pack: int = 1
    # Submit and return; the same command later waits for what is queued, submits what is missing, and reports.
    detach: bool = False
    # A preempted task is always requeued; one that reaches its time limit is requeued at most this many times.
    max_num_timeout: int = 100
    additional_parameters: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="runner_slurm", node=SlurmLauncherConfig, provider="runner")
