"""A network that nobody trained: attacked only where `model.weights=random` says so, and flagged then."""

from __future__ import annotations

from runner.core.config import Config
from runner.core.errors import ConfigError
from runner.core.flags import Flag
from runner.runs.identity import RANDOM


def require_weights(config: Config) -> None:
    """Refuse a run without epochs on a model without weights. Errors: `ConfigError`.

    A model without the key `weights` is left alone: it may load its weights itself.
    """
    model = config["model"]
    if config["training"]["epochs"] == 0 and "weights" in model and not model["weights"]:
        allowed = "the weights to attack, since training.epochs=0; or random, for a network that nobody trained"
        raise ConfigError(f"model.weights=null: must be {allowed}")


def untrained_flag(config: Config) -> Flag:
    """Raised for a network with random weights and without training."""
    untrained = config["training"]["epochs"] == 0 and config["model"].get("weights") == RANDOM
    says = "the network is untrained (model.weights=random): its maps are those of random weights"
    return Flag(says, float(untrained), 0.0, (), untrained)
