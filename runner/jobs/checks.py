"""The checks that refuse bad input before any work starts, each in one line that names the key."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from runner.core.errors import ConfigError, require, unknown_key
from runner.core.grid import EpsilonGrid
from runner.core.identity import Config, digest, source_of, train_identity
from runner.core.kinds import check_kinds
from runner.core.types import Attack, Attribution, Certificate, Defense, budgets, differentiable
from runner.jobs import parts
from runner.metrics.reduction import REDUCTIONS
from runner.tracking_settings import TrackingSettings

TOP_LEVEL = frozenset(
    {"job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "certificate"}
    | {"tracking", "seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs"}
    | {"rerun"}
)
REPORT_SETTINGS = ("sweep", "runs", "name")
RERUNS = ("failed", "stale", "all")
"""What may be made again, beside the runs that `rerun` lists by their identities."""


def check(config: Config) -> None:
    """Build every part that is cheap to build and refuse what cannot work. Errors: `ConfigError`, one line."""
    check_names(config)
    _check_scalars(config)
    _check_metrics(config["metrics"])
    _check_tracking({key: value for key, value in config["tracking"].items() if key != "name"})
    parts.part(config, "training")
    _check_model(config)
    defense, attribution, attack = (parts.part(config, group) for group in ("defense", "attribution", "attack"))
    for group, built, kind in (
        ("defense", defense, Defense),
        ("attribution", attribution, Attribution),
        ("attack", attack, Attack),
    ):
        require(
            isinstance(built, kind),
            f"{group}._target_",
            config[group]["_target_"],
            f"{kind.__name__} as in runner.core.types",
        )
    _check_measure(config, attack)
    _check_certificate(config, attribution)
    if attack.order >= 2 and not differentiable(attribution):
        name, allowed = (
            config["attack"]["name"],
            "an attack that needs no gradient of the map (query, transfer, random)",
        )
        raise ConfigError(
            f"attack={name}: attribution={config['attribution']['name']} has no gradient; choose {allowed}"
        )
    _check_source(config, attack)
    _check_attack_fits(config, attack, parts.epsilon_grid(config))


def check_names(config: Config) -> None:
    """Refuse unknown keys at the top and in `report`, a sweep's name that is no folder, and an unusable `outputs`."""
    for key in sorted(set(config) - TOP_LEVEL):
        raise ConfigError(unknown_key(key, TOP_LEVEL))
    check_rerun(config.get("rerun"))
    for key in sorted(set(config["report"]) - set(REPORT_SETTINGS)):
        raise ConfigError(unknown_key(f"report.{key}", REPORT_SETTINGS))
    check_sweep(config["sweep"], config["outputs"])


def check_rerun(rerun: object) -> None:
    """Refuse a `rerun` that names nothing."""
    items = [*rerun, *rerun.values()] if isinstance(rerun, dict) else rerun  # the stamps of a plan, by identity
    listed = isinstance(items, list) and all(isinstance(item, str) for item in items)
    if rerun is not None and not listed and rerun not in RERUNS:
        raise ConfigError.choice("rerun", rerun, [*RERUNS, "null", "a list of identities"])


def check_sweep(sweep: object, outputs: object) -> None:
    """Refuse a sweep's name that is no folder name, and a folder of outputs that cannot be made."""
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
    k, pixels = config["metrics"]["k"], shape[1] * shape[2]
    require(_whole(k, 1) and k <= pixels, "metrics.k", k, f"a whole number from 1 to the {pixels} pixels of an image")
    for key in ("seed", "attack_seed"):
        require(_whole(config[key]), key, config[key], "a whole number of at least 0")
    seeds = config["seeds"]
    listed = isinstance(seeds, list) and all(_whole(seed) for seed in seeds) and len(set(seeds)) == len(seeds) > 0
    require(listed, "seeds", seeds, "a list of different whole numbers of at least 0")
    for key, none in (("examples", "all"), ("threads", "all cores")):
        value = config[key]
        require(value is None or _whole(value, 1), key, value, f"a whole number of at least 1, or null for {none}")
    chunk, save = config["attack"]["chunk"], config["attack"]["save_images"]
    require(_whole(chunk, 1), "attack.chunk", chunk, "a whole number of at least 1")
    require(isinstance(save, bool), "attack.save_images", save, "true or false")
    parts.device_of(config)


def _check_metrics(settings: Config) -> None:
    if settings["reduction"] not in REDUCTIONS:
        raise ConfigError.choice("metrics.reduction", settings["reduction"], REDUCTIONS)
    require(
        isinstance(settings["common_noise"], bool), "metrics.common_noise", settings["common_noise"], "true or false"
    )


def _check_tracking(settings: Config) -> None:
    allowed = [item.name for item in fields(TrackingSettings)]
    for key in sorted(set(settings) - set(allowed)):
        raise ConfigError(unknown_key(f"tracking.{key}", allowed))
    check_kinds(TrackingSettings, settings, "tracking")
    TrackingSettings.read(settings)


def _check_model(config: Config) -> None:
    """Build the model without its weights on the meta device, which takes neither time nor memory."""
    with torch.device("meta"):
        parts.part(parts.without_weights(config), "model")


def _check_measure(config: Config, attack: Any) -> None:
    if attack.measure != "objective":
        parts.harm_of(config, attack.measure)
    else:
        parts.metrics(config)


def _check_certificate(config: Config, attribution: Attribution) -> None:
    certificate = parts.certificate(config)
    if certificate is None:
        return
    kind = "Certificate as in runner.core.types"
    require(isinstance(certificate, Certificate), "certificate._target_", config["certificate"]["_target_"], kind)
    certificate.check(attribution, config["epsilon"]["norm"], config["metrics"]["reduction"])
    if certificate.bounds not in parts.metrics(config):
        raise ConfigError(
            f"metrics: must have {certificate.bounds}, which certificate={config['certificate']['name']} bounds"
        )


def _check_source(config: Config, attack: Any) -> None:
    """Refuse a source that is missing, of no use, or unfit itself, and one that is the model of some of the seeds."""
    source, wanted, name = source_of(config), getattr(attack, "takes_source", False), config["attack"]["name"]
    require(source is None or wanted, "attack.source", "given", f"absent: {name} searches its own images")
    if source is None:
        require(not wanted, "attack.source", None, f"the run that {name} takes its images from")
        return
    try:
        check({**source, "job": {**config["job"], "name": "attack"}})
    except ConfigError as error:
        raise ConfigError(f"attack.source: {error}") from None
    seeds = config["seeds"] if config["job"]["name"] == "evaluate" else [config["seed"]]
    own = [seed for seed in seeds if _trains_itself({**config, "seed": seed})]
    require(
        len(own) in (0, len(seeds)),
        "attack.source.seed",
        source["seed"],
        f"none of the seeds {seeds}: the source is then the attacked model itself",
    )


def _trains_itself(config: Config) -> bool:
    source = source_of(config)
    return source is not None and digest(train_identity(source)) == digest(train_identity(config))


def _check_attack_fits(config: Config, attack: Any, grid: EpsilonGrid) -> None:
    allowed = budgets(attack)
    if grid.norm not in allowed:
        raise ConfigError(
            f"epsilon.norm={grid.norm}: attack={config['attack']['name']} takes {', '.join(allowed)}; choose such an epsilon"
        )
    pixels, largest = config["dataset"]["shape"][1] * config["dataset"]["shape"][2], grid.epsilons()[-1]
    if grid.norm == "l0":
        require(largest <= pixels, "epsilon", f"{largest:g}", f"at most the {pixels} pixels of an image")
    smooth = config["model"].get("activation") == "softplus"
    if attack.order >= 2 and attack.beta is None and not smooth:
        raise ConfigError(
            f"attack.beta=null: {config['attack']['name']} needs second-order gradients and model.activation="
            f"{config['model'].get('activation', 'relu')} has none; give attack.beta (a softplus twin) or model.activation=softplus"
        )
    unbounded = float("inf") in grid.epsilons()
    require(
        not unbounded or getattr(attack, "update", None) == "adam" or getattr(attack, "takes_source", False),
        "epsilon.values",
        "inf",
        "finite unless attack.update=adam",
    )


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
