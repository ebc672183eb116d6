"""Executes the job that a composed config names."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from runner.cli import refusing
from runner.core import signals
from runner.core.config import resolved
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.sweeps.plan import Plan


def execute(cfg: DictConfig) -> dict[str, Any]:
    """Execute the job of a composed config; returns the content of its `result.json`. Errors: `StopRequested` on a signal."""
    with refusing(), signals.listening():
        run = Run.of(resolved(cfg))
        return run_job(run if run.config["rerun"] is None else run.replacing(Plan.of_run(run).replaced()))
