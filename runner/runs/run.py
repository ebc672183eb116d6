"""A run: one execution of a job, known by its id. A composed config becomes a `Run` once; no other code derives ids from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.build import Built
from runner.core.config import Config
from runner.core.hashing import folder_name
from runner.runs.config_check import check_config
from runner.runs.identity import in_current_form, source_of
from runner.runs.job_table import JOBS, Identified, Job
from runner.store.folder import Folder

if TYPE_CHECKING:
    from runner.runs.parts import Parts

UNNAMED = "unnamed"
"""The sweep's name when none is given, or when there is no sweep."""

IMAGES = "images.safetensors"
"""File of the perturbed images of an attack with `save_images`."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run: its job and validated config, and everything derived from them."""

    job: Job
    config: Config = field(repr=False)
    replaces: Mapping[str, str] | None = field(default=None, repr=False)
    """The results that its plan reruns: identity -> stamp of the result when it was planned."""
    built: Built = field(default_factory=dict, repr=False)
    """Objects shared with other runs of this process."""

    @classmethod
    def of(cls, config: Config, built: Built | None = None) -> Run:
        """The run of a resolved config. Errors: `ConfigError`, one line, for an invalid config.

        The parts of a run that is finished are not built: they were when it was executed.
        """
        config = in_current_form(config)
        check_config(config)
        run = cls(JOBS[config["job"]["name"]], config, built={} if built is None else built)
        if run._needs_parts:
            run._validate()
        return run

    @property
    def _needs_parts(self) -> bool:
        """Whether it may be executed, as far as it is known here: it has parts, and no result that is wanted as it is."""
        return self.job.identify is not None and (self.config.get("rerun") is not None or self.result() is None)

    def _validate(self) -> None:
        from runner.runs.validation import validate  # late, as in `parts`

        validate(self.config, self.parts)

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, without built objects: that process builds its own."""
        return {"job": self.job.name, "config": self.config, "replaces": self.replaces}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the run in this process. Its config was validated when it was planned."""
        self.__dict__.update(state, job=JOBS[state["job"]], built={})

    @cached_property
    def parts(self) -> Parts:
        """The objects of its config."""
        from runner.runs.parts import Parts  # late: imports torch, which a finished run does not need

        return Parts(self.config, self.built)

    @cached_property
    def _identified(self) -> Identified:
        return Identified("", {}) if self.job.identify is None else self.job.identify(self.config)

    @property
    def identity(self) -> str:
        """The hash at the end of its folder's name; empty for a report, which has none."""
        return self._identified.identity

    @property
    def columns(self) -> dict[str, Any]:
        """The identity columns that its rows and its result carry."""
        return self._identified.columns

    @cached_property
    def folder(self) -> Path:
        """Its folder in the store. A run from before weights files were part of the name keeps its folder."""
        before = self._folder({**self.config, "model": {**self.config["model"], "weights": None}})
        return before if before.is_dir() else self._folder(self.config)

    def _folder(self, config: Config) -> Path:
        return self.outputs / self.job.folder / folder_name(self.job.labels(config), self.identity or None)

    @property
    def outputs(self) -> Path:
        """The store."""
        return Path(self.config["outputs"])

    @property
    def sweep(self) -> str:
        """Name of its sweep."""
        return str(self.config["sweep"])

    @cached_property
    def inputs(self) -> tuple[Run, ...]:
        """The runs that must be finished first; for an attack, its training comes first."""
        return tuple(
            replace(self, job=JOBS[name], config=_as_job(config, name)) for name, config in self.job.inputs(self.config)
        )

    @cached_property
    def source(self) -> Run | None:
        """The run that an attack takes its images from, None for an attack that searches itself."""
        return self.inputs[1] if source_of(self.config) is not None else None

    @property
    def keeps_images(self) -> bool:
        """Whether it is an attack that must store its perturbed images."""
        return self.job.name == "attack" and bool(self.config["attack"]["save_images"])

    def keeping_images(self) -> Run:
        """The same attack, storing its perturbed images too; any other run unchanged."""
        if self.job.name != "attack":
            return self
        return replace(self, config={**self.config, "attack": {**self.config["attack"], "save_images": True}})

    def replacing(self, stamps: Mapping[str, str] | None) -> Run:
        """The same run with other `replaces`. Its id and folder do not depend on them and are not computed again."""
        run = replace(self, replaces=stamps)
        known = ("_identified", "folder", "parts")
        run.__dict__.update({name: self.__dict__[name] for name in known if name in self.__dict__})
        return run

    def result(self) -> dict[str, Any] | None:
        """Its result if it succeeded and is complete: no failed seeds, and with perturbed images if they are wanted."""
        result = Folder(self.folder).finished()
        if result is None or result.get("failed_seeds"):
            return None
        return None if self.keeps_images and not (self.folder / IMAGES).is_file() else result


def identity_of(folder: Path) -> str:
    """The hash at the end of a run's folder name."""
    return folder.name.rsplit("-", 1)[1]


def _as_job(config: Config, name: str) -> Config:
    return {**config, "job": {"name": name, "_target_": JOBS[name].target}}
