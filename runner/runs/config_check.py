"""Rejects bad input that shows in the config alone, with one line that names the key. Builds nothing, so it needs no torch."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from runner.core.command_line import stated
from runner.core.config import Config
from runner.core.errors import ConfigError, require, unknown_key
from runner.core.type_hints import check_types
from runner.runs.job_table import JOBS
from runner.runs.node_check import check_augmentation, check_nodes, check_report, check_weights
from runner.runs.numbers import LARGEST_BATCH, MOST_THREADS, check_numbers
from runner.tracking.settings import TrackingSettings

TOP_LEVEL = frozenset(
    {"job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "certificate"}
    | {"tracking", "seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs"}
    | {"rerun", "profile"}
)
METRIC_SETTINGS = ("k", "reduction", "common_noise", "measured")
RERUNS = ("failed", "stale", "all")
"""Values of `rerun`, besides null and a list of run ids."""


def check_config(config: Config) -> None:
    """Check names, numbers, sizes and settings. Errors: `ConfigError`, one line."""
    check_report(config["report"])
    _check_names(config)
    check_numbers(config)
    check_nodes(config, "")
    if config["job"]["name"] == "report":
        return
    _check_scalars(config)
    _check_budgets(config["epsilon"])
    check_augmentation(config["dataset"].get("augmentation"))
    check_weights(config["model"].get("weights"))
    _check_metrics(config["metrics"])
    _check_tracking({key: value for key, value in config["tracking"].items() if key != "name"})


def _check_names(config: Config) -> None:
    """Reject unknown keys at the top level, an unknown job, an invalid sweep name, and an unusable `outputs`."""
    for key in sorted(set(config) - TOP_LEVEL):
        raise ConfigError(unknown_key(key, TOP_LEVEL))
    _check_rerun(config.get("rerun"))
    name, target = (config["job"][key] for key in ("name", "_target_"))
    if not isinstance(name, str) or name not in JOBS:
        raise ConfigError.choice("job.name", name, JOBS)
    require(target == JOBS[name].target, "job._target_", target, f"{JOBS[name].target} for job={name}")
    check_sweep(config["sweep"], config["outputs"])


def _check_rerun(rerun: object) -> None:
    listed = isinstance(rerun, list) and all(isinstance(item, str) for item in rerun)
    if rerun is not None and not listed and rerun not in RERUNS:
        raise ConfigError.choice("rerun", rerun, [*RERUNS, "null", "a list of identities"])


def check_sweep(sweep: object, outputs: object) -> None:
    """Reject a sweep name that cannot be a folder name, and an `outputs` folder that cannot be created."""
    named = sweep is None or bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(sweep)))
    require(named, "sweep", sweep, "a name of letters, digits and ._-")
    require(isinstance(outputs, str) and outputs != "", "outputs", outputs, "a folder")
    try:
        Path(str(outputs)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"outputs={outputs}: must be a folder that can be written ({error.strerror})") from None


def _check_scalars(config: Config) -> None:
    shape = config["dataset"]["shape"]
    good = isinstance(shape, list) and len(shape) == 3 and all(_whole(side, 1) for side in shape)
    require(good, "dataset.shape", shape, "a list of three whole numbers: channels, height, width")
    for group in ("dataset", "model"):
        classes = config[group].get("classes", 2)
        require(_whole(classes, 2), f"{group}.classes", classes, "a whole number of at least 2")
    k, pixels = config["metrics"]["k"], shape[1] * shape[2]
    key = "dataset.top_k" if k == config["dataset"].get("top_k") else "metrics.k"  # where it was written
    require(_whole(k, 1) and k <= pixels, key, k, f"a whole number from 1 to the {pixels} pixels of an image")
    for key, seed in (("seed", config["seed"]), ("attack_seed", config["attack_seed"]), _seed_of_dataset(config)):
        require(_whole(seed), key, seed, "a whole number of at least 0")
    seeds = config["seeds"]
    listed = isinstance(seeds, list) and all(_whole(seed) for seed in seeds) and len(set(seeds)) == len(seeds) > 0
    require(listed, "seeds", seeds, "a list of different whole numbers of at least 0")
    for key, none in (("examples", "all"), ("threads", "all cores")):
        value = config[key]
        require(value is None or _whole(value, 1), key, value, f"a whole number of at least 1, or null for {none}")
    threads = config["threads"]
    require((threads or 1) <= MOST_THREADS, "threads", threads, f"at most {MOST_THREADS}, or null for all cores")
    batch = config["training"].get("batch_size", 1)
    allowed = f"a whole number from 1 to {LARGEST_BATCH}"
    require(_whole(batch, 1) and batch <= LARGEST_BATCH, "training.batch_size", batch, allowed)
    chunk, save = config["attack"]["chunk"], config["attack"]["save_images"]
    require(_whole(chunk, 1), "attack.chunk", chunk, "a whole number of at least 1")
    require(isinstance(save, bool), "attack.save_images", save, "true or false")
    gain, cap = config["attack"].get("converge"), config["attack"].get("converge_cap", 16)
    small = gain is None or (isinstance(gain, (int, float)) and not isinstance(gain, bool) and 0 < gain < 1)
    require(small, "attack.converge", gain, "above 0 and below 1, or null for a single search")
    require(_whole(cap, 1), "attack.converge_cap", cap, "a whole number of at least 1")
    require(isinstance(config.get("profile", False), bool), "profile", config.get("profile"), "true or false")


def _check_budgets(settings: Config) -> None:
    """Refuse the ends or the step of a range in a command whose budgets are a list: it would have no effect."""
    listed = settings.get("values")
    for key, value in stated(f"epsilon.{name}" for name in ("start", "stop", "step")).items():
        allowed = "left out, as the budgets of epsilon.values count (or epsilon.values=null, and the range counts)"
        require(listed is None, key, value, allowed)


def _seed_of_dataset(config: Config) -> tuple[str, object]:
    return "dataset.seed", config["dataset"].get("seed", 0)


def _check_metrics(settings: Config) -> None:
    for key in sorted(set(settings) - set(METRIC_SETTINGS)):
        raise ConfigError(unknown_key(f"metrics.{key}", METRIC_SETTINGS))
    chosen = isinstance(settings["measured"], dict)
    require(chosen, "metrics.measured", settings["measured"], "options of the group: metrics=[NAME,...]")
    for name, node in settings["measured"].items():
        option = isinstance(node, dict) and "_target_" in node
        require(option, f"metrics.measured.{name}", node, "an option of the group: metrics=[NAME,...]")
    require(
        isinstance(settings["common_noise"], bool), "metrics.common_noise", settings["common_noise"], "true or false"
    )


def _check_tracking(settings: Config) -> None:
    allowed = [item.name for item in fields(TrackingSettings)]
    for key in sorted(set(settings) - set(allowed)):
        raise ConfigError(unknown_key(f"tracking.{key}", allowed))
    check_types(TrackingSettings, settings, "tracking")
    TrackingSettings.read(settings)


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
