"""`track`: one W&B run for one job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from runner.tracking.settings import TrackingSettings
from runner.tracking.tracker import Tracker
from runner.tracking.wandb_run import plain_name, start

SWEEP = "WANDB_SWEEP_ID"
"""Environment variable set by the agent of a W&B sweep; every W&B run of this process then gets the agent's id."""

_TRACKING: ContextVar[bool] = ContextVar("tracking", default=False)


@contextmanager
def track(
    settings: Mapping[str, Any],
    *,
    job: str,
    identity: str,
    name: str,
    group: str | None,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    folder: Path,
) -> Iterator[Tracker]:
    """One W&B run for one job, finished with exit code 0, or 1 when the body raises.

    Its id is `<job>-<identity>`: online, a resumed job continues its W&B run; offline, it writes a second segment under the same
    id, which `wandb sync` merges in order. `config` is the resolved, plain config. Under the agent of a W&B sweep the id is the
    agent's and there is only one W&B run: inputs that the job makes first are not shown.
    Errors: `ConfigError` for bad settings, before anything starts; failures of W&B itself are warnings.
    """
    options = TrackingSettings.read(settings)
    request = {
        "id": plain_name(f"{job}-{identity}"),
        "name": name[:128],
        "job_type": job,
        "group": group,
        "config": {**config, "provenance": dict(provenance)},
    }
    root = Path(folder if options.dir is None else options.dir).absolute()
    tracker = Tracker() if SWEEP in os.environ and _TRACKING.get() else start(options, request, root)
    token = _TRACKING.set(True)
    try:
        yield tracker
    except BaseException:
        tracker.finish(exit_code=1)
        raise
    finally:
        _TRACKING.reset(token)
    tracker.finish(exit_code=0)
