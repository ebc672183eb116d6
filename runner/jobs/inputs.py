"""The runs that a run needs."""

from __future__ import annotations

from runner.core.identity import Config, source_of


def inputs(job: str, config: Config) -> list[Config]:
    """Of an attack its training and its source, of an evaluation the attacks of its seeds."""
    if job == "evaluate":
        return [{**_as_job(config, "attack"), "seed": seed} for seed in config["seeds"]]
    source = source_of(config) if job == "attack" else None
    needed = [_as_job(config, "train")] if job == "attack" else []
    return needed if source is None else [*needed, _as_job(source, "attack")]


def _as_job(config: Config, job: str) -> Config:
    return {**config, "job": {"name": job, "_target_": f"runner.jobs.{job}.run"}}
