"""What every certificate promises: a bound of its metric that no perturbation inside the budget breaks."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from found import Plugin
from torch import Tensor, nn
from world import COUNT, PARTS, Passes, explainer, keys_of, predicted, untouched, with_references

from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import TopK
from runner.core import rng
from runner.core.attack_types import Problem
from runner.core.norms import project, sample_ball, sample_corner
from runner.core.types import Annotated, Certificate, Subject
from runner.models.twin import softplus_twin
from runner.runs.parts import Parts

DRAWS = 20
EXACT = {"rtol": 0.0, "atol": 0.0}


@cache
def model_of(plugin: Plugin) -> nn.Module:
    """The network of the YAML's command, small."""
    node = plugin.config["model"]
    small = {name: value for name, value in {"width": 3, "widths": [6]}.items() if name in node}
    with torch.random.fork_rng():
        torch.manual_seed(13)
        model: nn.Module = Parts({"model": {**node, **small}}, {}).new_model()
    return model.eval()


@cache
def subject_of(plugin: Plugin) -> Subject:
    """What the YAML's command is about, with as many samples as it states: fewer would make most bounds say nothing."""
    config, model = plugin.config, model_of(plugin)
    attribution = with_references(Parts(config, {}).attribution, torch.float32)
    shape = tuple(config["dataset"]["shape"])
    images = torch.rand(COUNT, *shape, generator=torch.Generator().manual_seed(0))
    explain = explainer(attribution, config["metrics"]["reduction"])
    return Subject(model, attribution, explain, images, predicted(model, images), keys_of())


def certificate_of(plugin: Plugin, **changes: Any) -> Certificate:
    node = {**plugin.config["certificate"], **changes}
    built: Certificate = Parts({"certificate": node}, {}).certificate
    return built


def epsilons_of(plugin: Plugin) -> tuple[float, ...]:
    """No budget, the smallest and the largest of the YAML's command."""
    epsilons = Parts(plugin.config, {}).grid.epsilons()
    return (*epsilons[:2], epsilons[-1])


@cache
def bounds_of(plugin: Plugin) -> Tensor:
    return certificate_of(plugin)(subject_of(plugin), epsilons_of(plugin))


def metric_of(plugin: Plugin) -> Any:
    return Parts(plugin.config, {}).metrics[certificate_of(plugin).bounds]


def take(subject: Subject, rows: Tensor) -> Subject:
    return replace(subject, images=subject.images[rows], targets=subject.targets[rows], keys=subject.keys[rows])


def test_it_is_a_certificate_that_accepts_what_its_command_chooses(certificate: Plugin) -> None:
    built, config = certificate_of(certificate), certificate.config
    assert isinstance(built, Certificate)
    assert built.confidence is None or 0 < built.confidence <= 1
    built.check(subject_of(certificate).attribution, config["epsilon"]["norm"], config["metrics"]["reduction"])


def test_it_gives_one_bound_an_example_and_budget(certificate: Plugin) -> None:
    bounds = bounds_of(certificate)
    assert bounds.shape == (COUNT, len(epsilons_of(certificate)))
    assert bounds.dtype == torch.float64
    assert not bounds.requires_grad
    assert not bounds.isnan().any()
    low, high = metric_of(certificate).range
    assert low <= bounds.min() <= bounds.max() <= high


def test_a_larger_budget_never_gets_a_better_bound(certificate: Plugin) -> None:
    steps = bounds_of(certificate).diff(dim=1)
    assert (steps <= 0).all() or metric_of(certificate).direction == "lower"
    assert (steps >= 0).all() or metric_of(certificate).direction == "higher"


def test_it_says_something(certificate: Plugin) -> None:
    """At its smallest budget a bound is better than the worst value of the metric, or a note beside it is above 0."""
    built, (low, high) = certificate_of(certificate), metric_of(certificate).range
    first = bounds_of(certificate)[:, 1]
    told = (first > low).any() if metric_of(certificate).direction == "higher" else (first < high).any()
    if isinstance(built, Annotated):
        _, notes = built.annotate(subject_of(certificate), epsilons_of(certificate)[:2])
        told = told or any((note[:, 1] > 0).any() for note in notes.values())
    assert told


def test_neither_batch_nor_order_matters_and_equal_calls_give_equal_bits(certificate: Plugin) -> None:
    subject, bounds = subject_of(certificate), bounds_of(certificate)
    with untouched(subject.model, subject.images, subject.targets, subject.keys):
        again = certificate_of(certificate)(subject, epsilons_of(certificate))
    torch.testing.assert_close(again, bounds, **EXACT)
    for rows in PARTS:
        part = certificate_of(certificate)(take(subject, rows), epsilons_of(certificate))
        torch.testing.assert_close(part, bounds[rows], rtol=1e-4, atol=1e-6)


def test_no_pass_is_larger_than_the_chunk(certificate: Plugin) -> None:
    """But for one image an example."""
    if not hasattr(certificate_of(certificate), "chunk"):
        return
    chunk = 200
    with Passes() as passes:
        bounds = certificate_of(certificate, chunk=chunk)(subject_of(certificate), epsilons_of(certificate))
    assert max(passes.sizes) <= max(COUNT, chunk)
    torch.testing.assert_close(bounds, bounds_of(certificate), rtol=1e-4, atol=1e-6)


def test_no_perturbation_inside_the_budget_beats_it(certificate: Plugin) -> None:
    """Random ones on the surface and inside, and what a gradient attack finds at the smallest budget.

    An estimate, which may be beaten, is right where the budget is tiny.
    """
    if certificate_of(certificate).confidence is None:
        assert_right_to_first_order(certificate)
        return
    clean = reported(certificate, subject_of(certificate).images, 0)
    for place, epsilon in enumerate(epsilons_of(certificate)):
        found = [moved(certificate, draw, epsilon) for draw in (sample_ball, sample_corner)]
        found += [attacked(certificate, epsilon)] if place == 1 else []
        for stream, images in enumerate(found, start=1):
            maps = reported(certificate, images, stream)
            values, bound = metric_of(certificate)(clean, maps), bounds_of(certificate)[:, place]
            kept = values >= bound if metric_of(certificate).direction == "higher" else values <= bound
            assert kept.all(), (epsilon, values, bound)


def moved(plugin: Plugin, draw: Any, epsilon: float, seed: int = 0) -> Tensor:
    """The images after a random perturbation of this budget."""
    images, norm = subject_of(plugin).images, plugin.config["epsilon"]["norm"]
    noise = draw(rng.fold(subject_of(plugin).keys, seed), tuple(images.shape[1:]), epsilon, norm)
    return project(images.double() + noise, images.double(), epsilon, norm).to(images.dtype)


def attacked(plugin: Plugin, epsilon: float) -> Tensor:
    """The images that projected gradient ascent finds through the softplus twin."""
    subject = subject_of(plugin)
    problem = Problem(
        model=subject.model,
        twin=lambda beta: softplus_twin(subject.model, beta).eval(),
        explain=subject.explain,
        harm=lambda reference, maps: (maps - reference).abs().sum(dim=(1, 2)),
        images=subject.images,
        targets=subject.targets,
        partners=subject.images.flip(0),
        keys=subject.keys,
    )
    attack = GradientAttack(TopK(10), "objective", steps=2)
    found = attack.search(problem, epsilon, plugin.config["epsilon"]["norm"], attack.start(problem))
    assert found.found.any()
    return found.images


def reported(plugin: Plugin, images: Tensor, stream: int) -> Tensor:
    """Maps under draws of their own."""
    subject = subject_of(plugin)
    return subject.explain(subject.model, images, subject.targets, rng.fold(subject.keys, 100 + stream)).detach()


def assert_right_to_first_order(plugin: Plugin) -> None:
    """In float64 on a softplus network, whose map is smooth."""
    subject, epsilon = subject_of(plugin), 1e-4
    model = softplus_twin(subject.model, 3.0).double().eval()
    images = subject.images.double()
    smooth = replace(subject, model=model, images=images)
    estimate = certificate_of(plugin)(smooth, (0.0, epsilon))[:, 1]
    clean = subject.explain(model, images, subject.targets, subject.keys).detach()
    for number in range(DRAWS):
        noise = sample_corner(rng.fold(subject.keys, number), tuple(images.shape[1:]), epsilon, "l2")
        maps = subject.explain(model, images + noise, subject.targets, subject.keys).detach()
        assert (metric_of(plugin)(clean, maps) <= 1.05 * estimate + 1e-13).all()
    assert (estimate > 0).all()
