"""Rejects bad input before any work starts, with one line that names the key."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from runner.core.attack_types import Attack, budgets
from runner.core.config import Config
from runner.core.errors import ConfigError, require, unknown_key
from runner.core.hashing import digest
from runner.core.type_hints import check_types
from runner.core.types import Attribution, Certificate, Defense, differentiable
from runner.metrics.reduction import REDUCTIONS
from runner.runs.identity import source_of, train_identity
from runner.runs.numbers import MOST_THREADS, check_numbers
from runner.runs.parts import Parts
from runner.runs.trial import check_network, check_twin, has_curvature, has_gradient
from runner.runs.untrained import require_weights
from runner.tracking.settings import TrackingSettings

TOP_LEVEL = frozenset(
    {"job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "certificate"}
    | {"tracking", "seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs"}
    | {"rerun", "profile"}
)
METRIC_SETTINGS = ("k", "reduction", "common_noise", "measured")
REPORT_SETTINGS = ("sweep", "runs", "name")
RERUNS = ("failed", "stale", "all")
"""Values of `rerun`, besides null and a list of run ids."""


def validate(config: Config, parts: Parts) -> None:
    """Build the parts that are cheap to build and check that they fit together. Errors: `ConfigError`, one line."""
    _check_names(config)
    check_numbers(config)
    if config["job"]["name"] == "report":
        return
    _check_scalars(config)
    _check_metrics(config["metrics"])
    _check_tracking({key: value for key, value in config["tracking"].items() if key != "name"})
    _check_parts(config, parts)
    require_weights(config)
    _check_certificate(config, parts)
    _check_source(config, parts)
    check_search(config, parts)


def check_search(config: Config, parts: Parts) -> None:
    """Check that attack, attribution, metrics and budgets fit together. Errors: `ConfigError`, one line."""
    _check_measure(parts)
    _check_gradient(config, parts)
    _check_attack_fits(config, parts)


def _check_names(config: Config) -> None:
    """Reject unknown keys at the top level and in `report`, an invalid sweep name, and an unusable `outputs`."""
    for key in sorted(set(config) - TOP_LEVEL):
        raise ConfigError(unknown_key(key, TOP_LEVEL))
    _check_rerun(config.get("rerun"))
    for key in sorted(set(config["report"]) - set(REPORT_SETTINGS)):
        raise ConfigError(unknown_key(f"report.{key}", REPORT_SETTINGS))
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
    k, pixels = config["metrics"]["k"], shape[1] * shape[2]
    require(_whole(k, 1) and k <= pixels, "metrics.k", k, f"a whole number from 1 to the {pixels} pixels of an image")
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
    chunk, save = config["attack"]["chunk"], config["attack"]["save_images"]
    require(_whole(chunk, 1), "attack.chunk", chunk, "a whole number of at least 1")
    require(isinstance(save, bool), "attack.save_images", save, "true or false")
    require(isinstance(config.get("profile", False), bool), "profile", config.get("profile"), "true or false")


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
    if settings["reduction"] not in REDUCTIONS:
        raise ConfigError.choice("metrics.reduction", settings["reduction"], REDUCTIONS)
    require(
        isinstance(settings["common_noise"], bool), "metrics.common_noise", settings["common_noise"], "true or false"
    )


def _check_tracking(settings: Config) -> None:
    allowed = [item.name for item in fields(TrackingSettings)]
    for key in sorted(set(settings) - set(allowed)):
        raise ConfigError(unknown_key(f"tracking.{key}", allowed))
    check_types(TrackingSettings, settings, "tracking")
    TrackingSettings.read(settings)


def _check_parts(config: Config, parts: Parts) -> None:
    """Build the parts that need no data."""
    _ = parts.device, parts.training, parts.model_on_meta
    for group, built, kind in (
        ("defense", parts.defense, Defense),
        ("attribution", parts.attribution, Attribution),
        ("attack", parts.attack, Attack),
    ):
        _require_kind(config, group, built, kind)


def _require_kind(config: Config, group: str, built: object, kind: type) -> None:
    allowed = f"{kind.__name__} as in runner.core.types"
    require(isinstance(built, kind), f"{group}._target_", config[group]["_target_"], allowed)


def _check_measure(parts: Parts) -> None:
    if parts.attack.measure != "objective":
        parts.harm(parts.attack.measure)
    else:
        _ = parts.metrics


def _check_certificate(config: Config, parts: Parts) -> None:
    certificate = parts.certificate
    if certificate is None:
        return
    _require_kind(config, "certificate", certificate, Certificate)
    certificate.check(parts.attribution, config["epsilon"]["norm"], config["metrics"]["reduction"])
    if certificate.bounds not in parts.metrics:
        name = config["certificate"]["name"]
        raise ConfigError(f"metrics: must have {certificate.bounds}, which certificate={name} bounds")


def _check_gradient(config: Config, parts: Parts) -> None:
    """Try the network and the attribution, and reject an attack that needs a gradient which the map does not have."""
    if "model" not in parts.given:
        check_network(config, parts)
    gradient = has_gradient(config, parts) and differentiable(parts.attribution)
    if parts.attack.order >= 2 and not gradient:
        attack, attribution = config["attack"]["name"], config["attribution"]["name"]
        allowed = "an attack that needs no gradient of the map (query, transfer, random)"
        raise ConfigError(f"attack={attack}: attribution={attribution} has no gradient; choose {allowed}")


def _check_source(config: Config, parts: Parts) -> None:
    """Reject a source that is missing, unused or invalid, and one whose model is the attacked model of some seeds."""
    source, wanted, name = source_of(config), getattr(parts.attack, "takes_source", False), config["attack"]["name"]
    require(source is None or wanted, "attack.source", "given", f"absent: {name} finds its own images")
    if source is None:
        require(not wanted, "attack.source", None, f"the run that {name} takes its images from")
        return
    try:
        validate({**source, "job": {**config["job"], "name": "attack"}}, Parts(source, parts.built))
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


def _check_attack_fits(config: Config, parts: Parts) -> None:
    attack, grid = parts.attack, parts.grid
    allowed = budgets(attack)
    if grid.norm not in allowed:
        raise ConfigError(
            f"epsilon.norm={grid.norm}: attack={config['attack']['name']} takes {', '.join(allowed)}; choose such an epsilon"
        )
    pixels, largest = config["dataset"]["shape"][1] * config["dataset"]["shape"][2], grid.epsilons()[-1]
    if grid.norm == "l0":
        require(largest <= pixels, "epsilon", f"{largest:g}", f"at most the {pixels} pixels of an image")
    if attack.order >= 2:
        _check_curvature(config, parts)
    unbounded = float("inf") in grid.epsilons()
    require(
        not unbounded or getattr(attack, "update", None) == "adam" or getattr(attack, "takes_source", False),
        "epsilon.values",
        "inf",
        "finite unless attack.update=adam",
    )


def _check_curvature(config: Config, parts: Parts) -> None:
    """Reject second-order gradients of a network that has none, and a twin that cannot be made of it."""
    for beta in dict.fromkeys(parts.attack.betas()):
        if beta is not None:
            check_twin(config, parts, float(beta))
        elif not has_curvature(config, parts):
            attack, model = config["attack"]["name"], config["model"]["name"]
            raise ConfigError(
                f"attack.beta=null: {attack} needs second-order gradients and model={model} has none; give attack.beta "
                "(a softplus twin) or a network with smooth activations (model.activation=softplus)"
            )


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
