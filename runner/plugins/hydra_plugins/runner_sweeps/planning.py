"""What our launchers share: from the overrides of a sweep to its plan, and from its outcome to Hydra's job returns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

if TYPE_CHECKING:
    from runner.jobs.plan import Plan

log = logging.getLogger(__name__)


def plan_of(hydra_context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> Plan:
    """Compose and check every cell. Errors: `ConfigError` or Hydra's own, before anything runs."""
    from runner.jobs import resolved
    from runner.jobs.plan import Plan

    setup_globals()
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    loader = hydra_context.config_loader
    cells = [(resolved(loader.load_sweep_config(config, list(overrides))), overrides) for overrides in job_overrides]
    plan = Plan.of(cells)
    log.info("%d cells, %d runs to do (inputs included)", len(cells), len(plan.tasks))
    return plan


def returns(plan: Plan, failures: Mapping[Path, str]) -> list[JobReturn]:
    """One job return a stated cell, in order, with the content of its `result.json`."""
    from runner.jobs.sweep import as_results

    results = as_results(plan, failures)
    done = [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for _, overrides in plan.cells]
    for job, result in zip(done, results, strict=False):
        job.return_value = result
    return done
