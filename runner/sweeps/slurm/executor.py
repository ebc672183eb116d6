"""Submits packs of runs to SLURM as one array, with submitit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from runner.sweeps.slurm.task import Pack

_OF_THE_EXECUTOR = ("submitit_folder", "max_num_timeout")


def send(packs: Sequence[Pack], after: Sequence[str], code: Path, options: Mapping[str, Any]) -> list[str]:
    """Submit packs as an array that starts when the jobs `after` have ended, in any state. Returns the SLURM job of each pack.

    `options` are those of `hydra/launcher=slurm`. Errors: `HydraException` with sbatch's message when it rejects the array.
    """
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    timeouts = options["max_num_timeout"]
    executor = submitit.AutoExecutor(options["submitit_folder"], "slurm", slurm_max_num_timeout=timeouts)
    params = {key: value for key, value in options.items() if key not in (*_OF_THE_EXECUTOR, "_target_")}
    params["setup"] = [*(params.get("setup") or []), *_environment(code)]
    params["additional_parameters"] = {"requeue": True, **(params.get("additional_parameters") or {})}
    if after:
        params["dependency"] = f"afterany:{':'.join(after)}"
    of_all = BaseQueueConf.__dataclass_fields__
    executor.update_parameters(**{key if key in of_all else f"slurm_{key}": value for key, value in params.items()})
    try:
        jobs = executor.submit_array(packs)
    except (FailedJobError, FailedSubmissionError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines())
        raise HydraException(f"hydra/launcher=slurm: sbatch refused the array: {reason}") from None
    return [str(job.job_id) for job in jobs]


def _environment(code: Path) -> list[str]:
    """Shell lines of a task: put its code snapshot first on the path, and use as many threads as it has CPUs."""
    path = shlex.quote(f"{code}:{code / 'runner' / 'plugins'}")
    return [
        f'export PYTHONPATH={path}"${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONSAFEPATH=1 RUNNER_QUIET=1',
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',  # since SLURM 22.05, srun does not inherit it from sbatch
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SRUN_CPUS_PER_TASK}"',
    ]
