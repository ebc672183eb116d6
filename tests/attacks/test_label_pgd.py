"""The attack on the label, on a linear model whose largest margin in the ball is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from runner.attacks.label_pgd import LabelAttack, margins
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms


@pytest.fixture
def linear(quadratic):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    torch.manual_seed(3)
    nn.init.normal_(model[1].weight, std=0.3)
    return replace(quadratic, model=model, targets=model(quadratic.images).argmax(1))


def climb(attack, problem, norm, epsilons=(0.01, 0.05, 0.15)):
    best, found = attack.start(problem), []
    for epsilon in epsilons:
        best = attack.search(problem, epsilon, norm, best)
        found.append(best)
    return found


def test_margins_are_positive_where_the_label_flipped():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 4.0]])
    assert margins(logits, torch.tensor([1, 2])).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_budgets_hold_and_flips_only_grow(linear, norm, loss):
    attack = LabelAttack(steps=20, loss=loss, restarts=2)
    previous = attack.start(linear)
    assert (previous.harm < 0).all()
    for epsilon, best in zip((0.01, 0.05, 0.15), climb(attack, linear, norm), strict=True):
        assert (perturbation_norms(best.images, linear.images, norm) <= epsilon).all()
        assert ((best.images >= 0) & (best.images <= 1)).all()
        assert (best.harm >= previous.harm).all()
        assert torch.equal(linear.model(best.images).argmax(1) != linear.targets, best.harm > 0)
        previous = best
    if norm == "linf":
        assert (previous.harm > 0).any()


def test_the_margin_of_a_linear_model_of_two_classes_is_the_exact_one(linear):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    problem = replace(linear, model=model, targets=model(linear.images).argmax(1))
    weights = model[1].weight.detach()
    for norm, dual in (("l2", 2), ("linf", 1)):
        best = climb(LabelAttack(steps=10), problem, norm, (0.1,))[-1]
        clean = margins(model(problem.images), problem.targets)
        gain = 0.1 * (weights[0] - weights[1]).norm(p=dual)
        torch.testing.assert_close(best.harm, (clean + gain).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"steps": 0}, "attack.steps"), ({"restarts": 0}, "attack.restarts")],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        LabelAttack(**options)
