"""Launch the missing cells of a sweep as SLURM arrays, on top of hydra-submitit-launcher."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititSlurmLauncher

from hydra_plugins.runner_sweeps.planning import plan_of, returns
from runner.core.errors import require

if TYPE_CHECKING:
    from runner.jobs.frozen import Pack

_OF_ALL = frozenset(BaseQueueConf.__dataclass_fields__)
_OF_THE_EXECUTOR = ("submitit_folder", "max_num_timeout")


class SlurmLauncher(SubmititSlurmLauncher):
    """Skips finished cells, submits the missing ones, inputs first, and reports when all have ended."""

    def __init__(self, dry_run: bool = False, pack: int = 1, detach: bool = False, **params: Any) -> None:
        super().__init__(**params)
        require(pack >= 1, "hydra.launcher.pack", pack, "at least 1")
        self.dry_run, self.pack, self.detach = dry_run, pack, detach

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Bring the store to the state that the sweep describes; with `detach`, have SLURM do so."""
        plan = plan_of(self.hydra_context, self.config, job_overrides)
        from runner.jobs import slurm, snapshot, submission, sweep

        folder = Path(str(self.config.hydra.sweep.dir))
        if self.dry_run:
            submission.tell_queued(folder)
            gpus = next((self.params[key] for key in ("gpus_per_node", "gpus_per_task") if self.params.get(key)), 0)
            sys.exit(sweep.show(plan, int(self.params["array_parallelism"]), int(gpus)))
        plan.record()
        sent = list[submission.Sent]()
        if plan.tasks:
            slurm.require_commands()
            sent = submission.submit(plan, folder, self.pack, snapshot.take(folder / "code"), self._send)
        if self.detach:
            return []
        submission.wait(plan, sent)
        failures = submission.failures(plan, sent)
        sweep.finish(plan, failures)
        return returns(plan, failures)

    def _send(self, packs: Sequence["Pack"], after: Sequence[str], code: Path) -> list[str]:
        """Submit packs as one array that begins when the jobs `after` have ended, well or not.

        Errors: `HydraException` with what sbatch says, when it takes none.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        timeouts = self.params["max_num_timeout"]
        executor = submitit.AutoExecutor(self.params["submitit_folder"], "slurm", slurm_max_num_timeout=timeouts)
        params = {key: value for key, value in self.params.items() if key not in (*_OF_THE_EXECUTOR, "_target_")}
        params["setup"] = [*(params.get("setup") or []), *_environment(code)]
        params["additional_parameters"] = {"requeue": True, **(params.get("additional_parameters") or {})}
        if after:
            params["dependency"] = f"afterany:{':'.join(after)}"
        executor.update_parameters(
            **{key if key in _OF_ALL else f"slurm_{key}": value for key, value in params.items()}
        )
        try:
            jobs = executor.submit_array(packs)
        except (FailedJobError, FailedSubmissionError) as error:
            told = " ".join(line.strip() for line in str(error).splitlines())
            raise HydraException(f"hydra/launcher=slurm: sbatch refused the array: {told}") from None
        return [str(job.job_id) for job in jobs]


def _environment(code: Path) -> list[str]:
    """Shell lines of a task: the code it was submitted with comes first, and threads are as many as its CPUs."""
    path = shlex.quote(f"{code}:{code / 'runner' / 'plugins'}")
    return [
        f'export PYTHONPATH={path}"${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONSAFEPATH=1 RUNNER_QUIET=1',
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',  # since 22.05 srun does not take it from sbatch
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SRUN_CPUS_PER_TASK}"',
    ]


@dataclass
class SlurmLauncherConfig(SlurmQueueConf):
    """Options of `hydra/launcher=slurm`: those of hydra-submitit-launcher, and three of ours."""

    _target_: str = "hydra_plugins.runner_sweeps.slurm.SlurmLauncher"
    # Show what is done, failed and missing; submit nothing. Exit code 0 (all done) or 3.
    dry_run: bool = False
    # Cells that one task does one after the other.
    pack: int = 1
    # Submit and return; the same command later waits for what is queued, submits what is missing, and reports.
    detach: bool = False
    # A task that is preempted is requeued by itself; this many times a time limit is no end either.
    max_num_timeout: int = 100
    additional_parameters: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="runner_slurm", node=SlurmLauncherConfig, provider="runner")
