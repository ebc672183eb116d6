"""Defenses that are a YAML only: natural or adversarial training of another model, or with other training settings."""

from functools import cache

import pytest
import torch
from composing import composed
from running import parts_of

from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.natural import Natural
from runner.models.feature_smoothing import FeatureSmoothing


@cache
def config(defense, *overrides):
    return resolved(composed(f"defense={defense}", *overrides))


@pytest.mark.parametrize(
    ("defense", "group", "changed", "kind"),
    [
        ("weight_decay", "training", {"weight_decay"}, Natural),
        ("large_lr", "training", {"optimizer", "learning_rate", "schedule"}, Natural),
        ("softplus", "model", {"activation", "beta"}, Natural),
        ("feature_smoothing", "model", {"feature_smoothing"}, AdversarialTraining),
    ],
)
def test_a_preset_changes_the_defense_and_these_keys_alone(defense, group, changed, kind):
    plain, preset = config("none"), config(defense)
    assert {key for key in preset if preset[key] != plain[key]} == {group, "defense"}
    assert {key for key in preset[group] if preset[group][key] != plain[group].get(key)} <= changed
    assert type(parts_of(preset).defense) is kind
    assert preset["defense"]["name"].startswith(f"{defense}-")


@pytest.mark.parametrize(
    ("defense", "override", "name"),
    [
        ("weight_decay", "training.weight_decay=0.5", "weight_decay-0.5"),
        ("large_lr", "training.learning_rate=0.3", "large_lr-0.3"),
        ("softplus", "model.beta=2.5", "softplus-2.5"),
        ("feature_smoothing", "model.feature_smoothing=1.5", "feature_smoothing-1.5-8/255x7"),
    ],
)
def test_the_command_line_overrides_a_preset_and_its_name_tells(defense, override, name):
    changed = config(defense, override)
    group, key = override.split("=")[0].split(".")
    assert str(changed[group][key]) == override.split("=")[1]
    assert changed["defense"]["name"] == name


def test_softplus_tends_to_relu_as_beta_grows():
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    outputs = []
    for overrides in (["softplus", "model.beta=10"], ["softplus", "model.beta=1e4"], ["none"]):
        torch.manual_seed(0)
        outputs.append(parts_of(config(*overrides)).new_model().eval()(images).detach())
    gaps = [float((output - outputs[2]).abs().max()) for output in outputs[:2]]
    assert gaps[0] > 1e-2
    assert gaps[1] < 1e-3


def test_feature_smoothing_puts_one_block_into_either_network():
    for overrides in ([], ["model=resnet20", "dataset=cifar10"]):
        model = parts_of(config("feature_smoothing", *overrides)).new_model()
        assert sum(isinstance(module, FeatureSmoothing) for module in model.modules()) == 1


def test_a_model_without_the_option_refuses_feature_smoothing():
    with pytest.raises(ConfigError, match=r"model\.feature_smoothing: no such key"):
        parts_of(config("feature_smoothing", "model=mlp")).new_model()
