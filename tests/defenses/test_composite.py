"""A composite equals its parts: its base at weights 0, the sum at weights 1, and parts with a state of their own go on alike."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from composing import composed
from running import parts_of
from torch import nn

from runner.core import rng
from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.core.types import Batch, kept_state, steps_per_batch
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.composite import Composite
from runner.defenses.natural import Natural
from runner.defenses.spectral_norm import SpectralNorm
from runner.defenses.ssr import SmoothSurface

IMAGES = torch.rand(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
BATCH = Batch(IMAGES, torch.tensor([0, 1, 2, 3]), rng.example_keys(0, range(4)), 0.5)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 20), nn.ReLU(), nn.Linear(20, 4)).double()


def one_step(*, steps, step_size, random_start):
    """A stand-in for the adversary: one normalised gradient step of length epsilon."""

    def adversary(objective, clean, epsilon, norm, keys):
        images = clean.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(images, 0).sum(), images)
        return clean + epsilon * gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)

    return adversary


BASES = {"natural": Natural(), "adversarial": AdversarialTraining(0.5, "l2", one_step, clean_weight=0.5)}


def composite(base="natural", ssr=1.0, norm=1.0):
    terms = {
        "ssr": {"weight": ssr, "defense": SmoothSurface()},
        "norm": {"weight": norm, "defense": SpectralNorm()},
    }
    return Composite(BASES[base], terms)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("ssr", "norm"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.5, 0.1)])
def test_it_is_the_weighted_sum_of_its_parts(base, ssr, norm):
    model = mlp()
    loss, scalars = composite(base, ssr, norm).loss(model, BATCH)
    alone, own = BASES[base].loss(model, BATCH)
    penalties = SmoothSurface().penalty(model, BATCH), SpectralNorm().penalty(model, BATCH)
    torch.testing.assert_close(loss, alone + ssr * penalties[0] + norm * penalties[1])
    expected = {**own, "penalty_ssr": penalties[0].detach(), "penalty_norm": penalties[1].detach()}
    torch.testing.assert_close(scalars, expected)


def test_gradients_add_up_too():
    model, weights = mlp(), (0.7, 0.2)
    composite("adversarial", *weights).loss(model, BATCH)[0].backward()
    found = model[1].weight.grad.clone()
    losses = [BASES["adversarial"].loss(model, BATCH)[0]]
    losses += [part.penalty(model, BATCH) for part in (SmoothSurface(), SpectralNorm())]
    each = [torch.autograd.grad(loss, model[1].weight)[0] for loss in losses]
    torch.testing.assert_close(found, each[0] + weights[0] * each[1] + weights[1] * each[2])


def test_a_regulariser_by_itself_is_natural_training_and_its_term():
    model = mlp()
    whole = SpectralNorm(weight=0.3).loss(model, BATCH)[0]
    built = Composite(Natural(), {"norm": {"weight": 0.3, "defense": SpectralNorm()}}).loss(model, BATCH)[0]
    assert whole.item() == built.item()


def test_without_terms_it_is_the_base():
    model = mlp()
    assert Composite(Natural(), {}).loss(model, BATCH)[0].item() == F.cross_entropy(model(IMAGES), BATCH.labels).item()


def test_states_of_all_parts_are_saved_and_restored():
    model, defense = mlp(), composite()
    nested = Composite(defense, {"again": {"weight": 1.0, "defense": SpectralNorm()}})
    for _ in range(3):
        nested.loss(model, BATCH)
    assert sorted(nested.state) == ["again.1", "again.3", "base.norm.1", "base.norm.3"]
    resumed = Composite(composite(), {"again": {"weight": 1.0, "defense": SpectralNorm()}})
    resumed.state.update(copy.deepcopy(nested.state))
    assert resumed.loss(model, BATCH)[0].item() == nested.loss(model, BATCH)[0].item()
    torch.testing.assert_close(resumed.state, nested.state, rtol=0, atol=0)


def test_it_replays_as_often_as_its_base():
    @dataclasses.dataclass(frozen=True)
    class Thrice(Natural):
        replays: int = 3

    assert [steps_per_batch(Composite(base, {})) for base in (Natural(), Thrice())] == [1, 3]
    defense = composite()
    assert kept_state(defense) is defense.state


@pytest.mark.parametrize(
    ("base", "terms", "key"),
    [
        (3.0, {}, "defense.base"),
        (Natural(), {"base": {"weight": 1.0, "defense": SpectralNorm()}}, "defense.terms"),
        (Natural(), {"a": {"weight": 1.0}}, "defense.terms.a"),
        (Natural(), {"a": 1.0}, "defense.terms.a"),
        (Natural(), {"a": {"weight": -1.0, "defense": SpectralNorm()}}, "defense.terms.a.weight"),
        (Natural(), {"a": {"weight": True, "defense": SpectralNorm()}}, "defense.terms.a.weight"),
        (Natural(), {"a": {"weight": 1.0, "defense": Natural()}}, "defense.terms.a.defense"),
    ],
)
def test_bad_options_are_refused_by_name(base, terms, key):
    with pytest.raises(ConfigError, match=key):
        Composite(base, terms)


def test_the_yaml_builds_it_and_terms_can_be_changed_from_the_command_line():
    config = resolved(composed("defense=composite", "defense.terms.ssr.weight=2", "~defense.terms.spectral_norm"))
    built = parts_of(config).defense
    assert {name: term["weight"] for name, term in built.terms.items()} == {"ssr": 2}
    assert isinstance(built.base, AdversarialTraining)
