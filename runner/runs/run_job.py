"""Execute a run: call the function of its job, unless the run is finished."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from runner.runs.run import Run
from runner.runs.run_once import existing_result

log = logging.getLogger(__name__)


def run_job(run: Run) -> dict[str, Any]:
    """The content of a run's `result.json`. Executes the job, and missing inputs, if the run is not finished.

    The job's module is imported only if there is work to do. Errors: those of the job; `FailedEarlierError` for a failed run
    that the plan does not rerun.
    """
    result = existing_result(run) if run.identity else None
    if result is None:
        result = _execute(run)
    if run.identity and (run.folder / "index.html").is_file():
        log.info("report: %s", run.folder / "index.html")
    return result


def _execute(run: Run) -> dict[str, Any]:
    from hydra.utils import get_method

    job = get_method(run.config["job"]["_target_"])
    with _networks(run) if run.identity else nullcontext():
        result: dict[str, Any] = job(run)
    return result


def _networks(run: Run) -> AbstractContextManager[None]:
    """What networks need around a job. One that only reads stored runs has none of them, and need not wait for torch."""
    import torch

    from runner.core.attention import twice_differentiable_attention
    from runner.core.memory import keep_freed_memory

    keep_freed_memory()
    if run.config["threads"]:
        torch.set_num_threads(int(run.config["threads"]))
    return twice_differentiable_attention()
