"""An open W&B run. This is the only file that imports wandb, and only when a run starts; no failure of W&B stops a job."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from runner.tracking.settings import Mode, TrackingSettings
from runner.tracking.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd
    import wandb as wandb_module

_P = ParamSpec("_P")

log = logging.getLogger(__name__)


def start(options: TrackingSettings, request: dict[str, Any], root: Path) -> Tracker:
    """Start a run in the folder `root` with these arguments of `wandb.init`; a plain `Tracker` if disabled or impossible."""
    if options.mode == "disabled":
        return Tracker()
    attempts: tuple[Mode, ...] = ("online", "offline") if options.mode == "online" else ("offline",)
    for mode, instead in zip(attempts, (*attempts[1:], "without it"), strict=True):
        try:
            with _environment(root):
                return _open(options, request, root, mode)
        except Exception as error:  # whatever W&B raises must not stop the job
            log.warning("W&B could not start %s, the job goes on %s: %s", mode, instead, _brief(error))
    return Tracker()


def _open(options: TrackingSettings, request: dict[str, Any], root: Path, mode: Mode) -> WandbTracker:
    wandb = importlib.import_module("wandb")
    # Checked first: on a terminal, wandb.init would prompt for a key and so stop the job.
    if mode == "online" and not wandb.login(prompt=False, verify=True):
        raise ConnectionError("no W&B login on this machine (run `wandb login`)")
    root.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=options.project,
        entity=options.entity,
        dir=str(root),
        tags=[str(tag) for tag in options.tags] or None,
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",  # evaluate runs attacks runs trainings: their runs are open side by side
        allow_val_change=True,
        settings=_wandb_settings(wandb, options),
        **request,
    )
    if mode == "online":
        log.info("W&B run: %s", run.url)
    return WandbTracker(wandb, run, options, root)


def _wandb_settings(wandb: Any, options: TrackingSettings) -> Any:
    return wandb.Settings(
        silent=True,
        console="off",
        symlink=False,  # `latest-run` is a race between parallel jobs
        save_code=options.save_code,
        disable_code=not options.save_code,
        disable_git=not options.save_code,
        disable_job_creation=True,
        x_disable_stats=not options.system_metrics,
        x_save_requirements=options.save_code,
        x_transaction_log_flush_interval=1.0,  # 15 s by default: a job killed earlier would leave nothing
        init_timeout=options.start_timeout,
        finish_timeout=options.finish_timeout,
    )


def _guarded(method: Callable[Concatenate[WandbTracker, _P], None]) -> Callable[Concatenate[WandbTracker, _P], None]:
    """A method that fails warns once; the tracker then does nothing more."""

    @functools.wraps(method)
    def call(self: WandbTracker, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.broken:
            return
        try:
            with _environment(self.root):
                method(self, *args, **kwargs)
        except Exception as error:  # whatever W&B raises must not stop the job
            self.broken = True
            log.warning("W&B failed in %s, the job goes on without it: %s", method.__name__, _brief(error))

    return call


@dataclass
class WandbTracker(Tracker):
    """An open W&B run."""

    wandb: Any
    run: wandb_module.Run
    options: TrackingSettings
    root: Path
    broken: bool = False
    _defined: set[str] = field(default_factory=set)

    @_guarded
    def log(self, values: Mapping[str, float], *, step_name: str, step: float) -> None:
        """Add one point to each curve; axes are declared on first use."""
        for metric in [name for name in (step_name, *values) if name not in self._defined]:
            self.run.define_metric(metric, step_metric=None if metric == step_name else step_name)
            self._defined.add(metric)
        self.run.log({**{key: float(value) for key, value in values.items()}, step_name: float(step)})

    @_guarded
    def summary(self, values: Mapping[str, Any]) -> None:
        """Single values of the whole job."""
        self.run.summary.update(dict(values))

    @_guarded
    def table(self, name: str, frame: pd.DataFrame) -> None:
        """A table whose columns have the types of the frame."""
        limit = self.options.max_table_rows
        if len(frame) > limit:
            log.info("W&B table %s: %d of %d rows (tracking.max_table_rows)", name, limit, len(frame))
            frame = frame.sample(limit, random_state=0).sort_index()
        columns = {str(key): _column(frame[key]) for key in frame.columns}
        table = self.wandb.Table(columns=list(columns), dtype=[kind for kind, _ in columns.values()])
        # All at once: add_data checks the type of every value, 0.4 s for 700 rows instead of 0.05 s.
        table.data = [list(row) for row in zip(*(values for _, values in columns.values()), strict=True)]
        self.run.log({name: table})

    @_guarded
    def image(self, name: str, path: Path, caption: str = "") -> None:
        """An image file."""
        self.run.log({name: self.wandb.Image(str(path), caption=caption or None)})

    @_guarded
    def artifact(self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any]) -> None:
        """Files as a version of the artifact `<name>-<run id>`; names are unique in a whole W&B project."""
        artifact = self.wandb.Artifact(
            plain_name(f"{name}-{self.run.id}"), type=plain_name(kind), metadata=dict(metadata)
        )
        for path in files:
            artifact.add_file(str(Path(path).absolute()), policy="immutable")  # a finished folder never changes
        self.run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        """Close the run, even if an earlier call failed."""
        try:
            with _environment(self.root):
                self.run.finish(exit_code=exit_code)
        except Exception as error:  # whatever W&B raises must not stop the job
            log.warning("W&B failed in finish: %s", _brief(error))


def _column(series: pd.Series[Any]) -> tuple[type, list[Any]]:
    """The W&B type of a column, and its values as plain Python values, None where missing."""
    values = series.astype(object).where(series.notna(), None).tolist()
    if series.dtype.kind == "b":
        return bool, values
    if series.dtype.kind in "iuf":
        return float, values
    return str, [None if value is None else str(value) for value in values]


@contextmanager
def _environment(root: Path) -> Iterator[None]:
    """Keep staged artifacts and logs out of the home folder, unless the user's own variables say otherwise.

    Variables that W&B adds are removed: with its WANDB_SERVICE, a child on another node would look for a server of this
    process.
    """
    before = {key for key in os.environ if key.startswith("WANDB_")}
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(root / "wandb"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(root / "wandb" / "cache"))
    try:
        yield
    finally:
        for key in [key for key in os.environ if key.startswith("WANDB_") and key not in before]:
            del os.environ[key]


def plain_name(text: str) -> str:
    """The text as a name that W&B accepts for ids and artifacts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128]


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
