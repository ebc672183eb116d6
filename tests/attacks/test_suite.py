"""The suite on analytic problems: at least as harmful as each member, and a flag for each way in which it can be fooled."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn

from runner.attacks.distances import Cosine, L2Ratio
from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import MassCenter
from runner.attacks.other_map import OtherMapAttack
from runner.attacks.random import RandomAttack
from runner.attacks.square import SquareSearch
from runner.attacks.suite import Suite
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms

EPSILONS = (0.1, 0.3)


@dataclass(frozen=True)
class Stay:
    """An objective that leads nowhere: it keeps the map as it is."""

    def bind(self, original):
        return lambda maps, probabilities: -(maps - original.maps).square().sum(dim=(1, 2))


class Linear(nn.Module):
    """Two logits, linear in the image: its gradient is the same everywhere."""

    def forward(self, images):
        value = (images.flatten(1) * torch.linspace(-1, 1, images[0].numel())).sum(dim=1)
        return torch.stack((value, -value), dim=1)


@pytest.fixture
def problem(quadratic):
    """Eighteen examples of the quadratic problem; harm is the share of a map's length that changed."""

    def harm(reference, maps):
        return (maps - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)

    images = torch.rand(18, 1, 3, 4, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    targets = quadratic.model(images).argmax(dim=1)
    keys = rng.example_keys(0, range(18), "attack")
    return replace(quadratic, harm=harm, images=images, targets=targets, partners=images.flip(0), keys=keys)


def member(objective, **options):
    return partial(GradientAttack, objective=objective, update="halving", **options)


def by_value(model, images, targets, keys):
    """An attribution without a network: the squared values of the pixels."""
    return images.square()


RANDOM = partial(RandomAttack, sample="ball", draws=20)
TRANSFER = partial(OtherMapAttack, objective=L2Ratio(), update="halving", attribution=by_value)


def suite(members, **options):
    return Suite(**{"measure": "m", "members": members, "steps": 6, "restarts": 1, "least_examples": 6} | options)


HEALTHY = {"ratio": member(L2Ratio()), "center": member(MassCenter(), beta=30.0), "random": RANDOM}


def walked(attack, problem, epsilons=EPSILONS, norm="l2"):
    """The best at each budget, the clean images first."""
    found = [attack.start(problem)]
    for epsilon in epsilons:
        found.append(attack.search(problem, epsilon, norm, found[-1]))
    return found


def flags_of(attack, problem, epsilons=EPSILONS):
    steps = walked(attack, problem, epsilons)
    notes = {name: torch.stack([step.notes[name] for step in steps]) for name in steps[0].notes}
    return attack.verdict((0.0, *epsilons), notes)["flags"]


def tripped(attack, problem, epsilons=EPSILONS):
    return {name for name, flag in flags_of(attack, problem, epsilons).items() if flag["tripped"]}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_is_the_worst_of_its_members_and_each_begins_at_the_clean_image(problem, norm):
    attack = suite(HEALTHY | {"query": partial(SquareSearch, queries=5), "transfer": TRANSFER})
    best = attack.start(problem)
    for epsilon in EPSILONS:
        earlier, best = best, attack.search(problem, epsilon, norm, best)
        alone = {
            name: each.search(problem, epsilon, norm, each.start(problem)) for name, each in attack.attacks.items()
        }
        for name, own in alone.items():
            assert torch.equal(own.harm, best.notes[f"harm_{name}"])
        assert torch.equal(best.harm, torch.stack([earlier.harm, *(own.harm for own in alone.values())]).amax(dim=0))
        assert (perturbation_norms(best.images, problem.images, norm) <= epsilon * (1 + 1e-6)).all()
        for place in range(18):
            winner = [*alone][int(best.notes["won"][place])]
            assert torch.equal(best.images[place], alone[winner].images[place])


def test_members_come_by_what_they_stand_for():
    attack = suite({"random": RANDOM, "query": partial(SquareSearch, queries=5), "transfer": TRANSFER, **HEALTHY})
    assert [*attack.attacks] == ["ratio", "center", "transfer", "query", "random"]
    assert attack.attacks["center"].steps == 6
    assert {each.measure for each in attack.attacks.values()} == {"m"}


def test_the_winner_of_a_smaller_budget_stays_where_nothing_better_is_found(problem):
    attack = suite({"stay": member(Stay()), "random": RANDOM})
    best = walked(attack, problem, (0.3,))[-1]
    again = attack.search(replace(problem, harm=lambda reference, maps: 0 * maps[:, 0, 0]), 0.4, "l2", best)
    assert torch.equal(again.notes["won"], best.notes["won"])
    assert torch.equal(again.images, best.images)


def test_an_attribution_does_not_transfer_to_itself(problem):
    def same(model, images, targets, keys):
        return problem.explain(model, images, targets, keys).unsqueeze(1)

    attack = suite({"ratio": member(L2Ratio()), "same": partial(TRANSFER, attribution=same)})
    best = walked(attack, problem)[-1]
    assert torch.equal(best.notes["harm_same"], attack.start(problem).harm)


def test_a_sound_suite_raises_no_flag(problem):
    attack = suite(HEALTHY | {"transfer": TRANSFER}, steps=20)
    flags = flags_of(attack, problem)
    assert {name for name, flag in flags.items() if flag["tripped"]} == set()
    assert len(flags) == 9
    assert all(flag["says"] for flag in flags.values())


def test_flag_no_second_order_signal(problem):
    linear = Linear()
    changed = replace(problem, model=linear, twin=lambda beta: linear, targets=linear(problem.images).argmax(dim=1))
    assert "no_second_order_signal" in tripped(suite(HEALTHY), changed)


def test_flag_random_beats_gradient(problem):
    attack = suite({"stay": member(Stay()), "random": RANDOM}, steps=1)
    assert tripped(attack, problem) == {"random_beats_gradient"}


def test_flag_transfer_beats_white_box(problem):
    def sharpened(model, images, targets, keys):
        return problem.explain(model, images, targets, keys).pow(4).unsqueeze(1)

    attack = suite({"stay": member(Stay()), "sharpened": partial(TRANSFER, attribution=sharpened)})
    assert tripped(attack, problem) == {"transfer_beats_white_box"}


def test_flag_larger_budget_smaller_change(problem):
    """Maps that change near the clean image alone, and a single step: what it finds in the large ball is too far away."""

    def near(model, images, targets, keys):
        moved = images - problem.images
        return 1 + (moved * torch.exp(-((moved / 0.02) ** 2))).sum(dim=1)

    attack = suite({"ratio": member(L2Ratio())}, steps=1)
    assert "larger_budget_smaller_change" in tripped(attack, replace(problem, explain=near), (0.05, 2.0))


def test_flag_masked_gradients(problem):
    """A twin without curvature, whose map never moves, beside the images of another attribution, which do harm."""
    linear = Linear()
    changed = replace(problem, twin=lambda beta: linear)
    attack = suite({"ratio": member(L2Ratio()), "transfer": TRANSFER})
    assert {"masked_gradients", "no_second_order_signal"} <= tripped(attack, changed)
    assert "masked_gradients" not in tripped(attack, problem)


def test_flag_stochastic_without_expectation(problem):
    def noisy(model, images, targets, keys):
        noise = 0.01 * rng.normal(keys, images.shape[1:])
        return problem.explain(model, images + noise, targets, keys)

    changed = replace(problem, explain=noisy)
    blind, seeing = (suite({"c": member(L2Ratio(), draws=draws), "random": RANDOM}) for draws in ("common", "fresh"))
    averaged = suite({"c": member(L2Ratio(), draws="common", eot=2), "random": RANDOM})
    assert "stochastic_without_expectation" in tripped(blind, changed)
    assert "stochastic_without_expectation" not in tripped(seeing, changed) | tripped(averaged, changed)
    assert "stochastic_without_expectation" not in tripped(blind, problem)


def test_flag_twin_too_far(problem):
    other = type(problem.model)(torch.diag(torch.linspace(-1, 1, 12)))
    changed = replace(problem, twin=lambda beta: other)
    flags = flags_of(suite(HEALTHY), changed)
    assert flags["twin_too_far"]["tripped"]
    assert flags["twin_too_far"]["value"] < 0.9
    assert not flags_of(suite(HEALTHY, least_cosine=-1.0), changed)["twin_too_far"]["tripped"]


def test_flags_labels_flip_and_few_examples(problem):
    """A model that predicts the first class at the clean images alone: nearly every iterate is rejected."""

    class Narrow(nn.Module):
        def forward(self, images):
            away = (images - problem.images).flatten(1).square().sum(dim=1)
            return torch.stack((1e-6 - away, torch.zeros_like(away)), dim=1)

    narrow = Narrow()
    changed = replace(problem, model=narrow, twin=lambda beta: narrow, targets=torch.zeros(18, dtype=torch.int64))
    assert {"labels_flip", "few_examples"} <= tripped(suite(HEALTHY), changed)
    assert "few_examples" in tripped(suite(HEALTHY, least_examples=19), problem)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"measure": "objective"}, "attack.measure"),
        ({"members": {"random": RANDOM}}, "attack.members"),
        ({"members": {"cosine": GradientAttack(Cosine(), "m")}}, "attack.members.cosine"),
        ({"least_cosine": 2.0}, "attack.least_cosine"),
        ({"least_examples": 0}, "attack.least_examples"),
        ({"steps": 0}, "attack.steps"),
        ({"members": HEALTHY | {"t": partial(TRANSFER, attribution=None)}}, "attack.attribution"),
    ],
)
def test_bad_options_name_their_key(options, key):
    with pytest.raises(ConfigError, match=rf"^{key}="):
        suite(**{"members": HEALTHY} | options)
