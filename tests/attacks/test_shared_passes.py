"""How many forward passes a step costs: the map's own pass also gives the logits, the loss's own pass also gives the label."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from runner.attacks.gradient import GradientAttack
from runner.attacks.judge import Judge
from runner.attacks.label_pgd import LabelAttack
from runner.attacks.objectives import Manipulate, TopK
from runner.attributions.integrated_gradients import IntegratedGradients
from runner.attributions.saliency import Saliency
from runner.core.shared_pass import map_and_logits
from runner.models.twin import softplus_twin

STEPS = 4


def reduced(attribution):
    return lambda model, images, targets, keys: attribution(model, images, targets, keys).abs().sum(dim=1)


@pytest.fixture
def problem(quadratic):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval().requires_grad_(False)
    targets = model(quadratic.images).argmax(dim=1)
    twin = softplus_twin(model, 10.0)
    return replace(quadratic, model=model, twin=lambda beta: twin, explain=reduced(Saliency()), targets=targets)


def passes(problem, attack, epsilon=0.3):
    """Forward passes of a search, by network."""
    best, counts = attack.start(problem), []
    for network in (problem.model, problem.twin(10.0)):
        counts.append([])
        network.register_forward_pre_hook(lambda _, inputs, seen=counts[-1]: seen.append(len(inputs[0])))
    attack.search(problem, epsilon, "l2", best)
    return [len(seen) for seen in counts]


def test_a_step_on_saliency_takes_one_pass_of_each_network(problem):
    assert passes(problem, GradientAttack(TopK(3), "any", steps=STEPS)) == [1 + STEPS, 1 + STEPS]  # 1: clean maps


@pytest.mark.parametrize(("objective", "further"), [(TopK(3), 0), (Manipulate(), STEPS)])
def test_only_an_objective_that_reads_probabilities_pays_for_them(problem, objective, further):
    path = replace(problem, explain=reduced(IntegratedGradients(steps=5)))
    attack = GradientAttack(objective, "any", steps=STEPS)
    ours = 2 if isinstance(objective, Manipulate) else 0  # the partners' classes and maps
    assert passes(path, attack) == [1 + 2 * STEPS, 2 + STEPS + further + ours]


def test_a_step_on_the_label_takes_one_pass(problem):
    assert passes(problem, LabelAttack(steps=STEPS))[0] == STEPS + 1


def test_the_label_attack_keeps_the_iterate_with_the_largest_margin(problem):
    seen = []

    class Watched(nn.Module):
        def forward(self, images):
            seen.append(images.detach().clone())
            return problem.model(images)

    attack = LabelAttack(steps=STEPS, step_size=2.0, random_start=True)
    watched = replace(problem, model=Watched())
    start = attack.start(watched)
    seen.clear()
    best = attack.search(watched, 0.3, "l2", start)
    harms = torch.stack([attack.start(replace(problem, images=images)).harm for images in seen[1:]])  # but its start
    assert torch.equal(best.harm, torch.maximum(harms.amax(dim=0), start.harm))


@pytest.mark.parametrize("attribution", [Saliency(), Saliency(chunk=2), IntegratedGradients(steps=1)])
def test_the_logits_are_those_of_a_pass_of_their_own_with_their_gradient(problem, attribution):
    leaf = problem.images.clone().requires_grad_()
    network = problem.twin(10.0)
    maps, logits = map_and_logits(reduced(attribution), network, leaf, problem.targets, problem.keys)
    assert torch.equal(maps, reduced(attribution)(network, leaf, problem.targets, problem.keys))
    assert torch.equal(logits(), network(leaf))
    found, expected = (torch.autograd.grad(each.square().sum(), leaf)[0] for each in (logits(), network(leaf)))
    torch.testing.assert_close(found, expected)


def test_what_the_judge_sees_has_no_graph(problem):
    harm, kept = Judge.by_measure(problem).look(problem.images)
    assert not harm.requires_grad
    assert kept.all()
    _, logits = map_and_logits(problem.explain, problem.model, problem.images, problem.targets, problem.keys)
    assert not logits().requires_grad
