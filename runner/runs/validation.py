"""Rejects options that cannot be built or do not fit together, before any work starts, with one line that names the key."""

from __future__ import annotations

from runner.core.attack_types import Attack, budgets
from runner.core.config import Config
from runner.core.errors import ConfigError, require
from runner.core.hashing import digest
from runner.core.types import Attribution, Certificate, Defense, differentiable
from runner.metrics.reduction import REDUCTIONS
from runner.runs.config_check import check_config
from runner.runs.identity import source_of, train_identity
from runner.runs.parts import Parts
from runner.runs.trial import check_network, check_twin, has_curvature, has_gradient
from runner.runs.untrained import require_weights


def validate(config: Config, parts: Parts) -> None:
    """Build the parts that are cheap to build and check that they fit together; `check_config` has passed the config.

    Errors: `ConfigError`, one line.
    """
    _check_reduction(config["metrics"]["reduction"])
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


def _check_reduction(reduction: object) -> None:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ConfigError.choice("metrics.reduction", reduction, REDUCTIONS)


def _check_parts(config: Config, parts: Parts) -> None:
    """Build the parts that need no data."""
    parts.check_dataset()
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
        check_config(source)
        validate(source, Parts(source, parts.built))
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
    betas = parts.attack.betas()
    given = [float(beta) for beta in betas if beta is not None]
    for beta in dict.fromkeys((min(given), max(given)) if given else ()):  # a beta that grows has one for each step
        check_twin(config, parts, beta)
    if None in betas and not has_curvature(config, parts):
        attack, model = config["attack"]["name"], config["model"]["name"]
        raise ConfigError(
            f"attack.beta=null: {attack} needs second-order gradients and model={model} has none; give attack.beta "
            "(a softplus twin) or a network with smooth activations (model.activation=softplus)"
        )
