"""Transforms against exact ones, and the search for the worst."""

from dataclasses import replace

import pytest
import torch

from runner.attacks.objectives import MassCenter, TopK
from runner.attacks.spatial import SpatialAttack
from runner.attacks.transforms import Limits
from runner.core import rng
from runner.core.errors import ConfigError

ATTACK = SpatialAttack(TopK(3), measure="any", steps=5, samples=5, shift=1.0)
IMAGES = rng.uniform(rng.example_keys(0, range(2)), (3, 6, 6)).double()


def parameters(*shares):
    return torch.tensor([[*shares, *[0.0] * (6 - len(shares))]] * 2, dtype=torch.float64)


# ---- transforms


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -1), (-2, 3)])
def test_whole_shifts_move_pixels(down, right):
    moved = Limits(0.0, 3.0, 0.0).apply(IMAGES, parameters(0, down / 3, right / 3), "zeros")
    expected = torch.zeros_like(IMAGES)
    source, target = (
        [slice(max(-s, 0), 6 - max(s, 0)) for s in (down, right)],
        [slice(max(s, 0), 6 + min(s, 0)) for s in (down, right)],
    )
    expected[:, :, target[0], target[1]] = IMAGES[:, :, source[0], source[1]]
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_quarter_turns_are_those_of_torch(turns):
    moved = Limits(180.0, 0.0, 0.0).apply(IMAGES, parameters(turns / 2), "border")
    torch.testing.assert_close(moved, IMAGES.rot90(turns, dims=(2, 3)))


def test_a_turn_comes_before_the_shift():
    moved = Limits(90.0, 2.0, 0.0).apply(IMAGES, parameters(1, 0.5, 0), "zeros")
    expected = torch.zeros_like(IMAGES)
    expected[:, :, 1:] = IMAGES.rot90(1, dims=(2, 3))[:, :, :5]
    torch.testing.assert_close(moved, expected)


def test_gains_belong_to_their_channels_and_stay_in_the_box():
    moved = Limits(0.0, 0.0, 0.5).apply(IMAGES, parameters(0, 0, 0, 1.0, -0.5, 0.0), "zeros")
    torch.testing.assert_close(moved, (IMAGES * torch.tensor([1.5, 0.75, 1.0]).reshape(3, 1, 1)).clamp(0, 1))
    assert moved.max() == 1


def test_no_transform_is_the_image_bit_for_bit():
    images = IMAGES.float()
    assert torch.equal(Limits(30.0, 3.0, 0.3).apply(images, parameters(0).float(), "zeros"), images)
    assert torch.equal(Limits(30.0, 3.0, 0.3).undo(images[:, 0], parameters(0).float()), images[:, 0])


def test_an_oblong_image_is_turned_and_not_stretched():
    """A point at (row 3, column 6) of 5 x 9 is 1 below and 2 right of the centre: a quarter turn takes it 2 up, 1 right."""
    image = torch.zeros(1, 1, 5, 9, dtype=torch.float64)
    image[..., 3, 6] = 1
    moved = Limits(90.0, 0.0, 0.0).apply(image, parameters(1)[:1, :4], "zeros")
    assert moved[0, 0, 0, 5].item() == pytest.approx(1)
    assert moved.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("shares", [(0.5, 0, 0), (0, 0.5, -0.5), (1.0, 0.5, -1.0)])
def test_moving_back_undoes_the_motion(shares):
    limits = Limits(90.0, 2.0, 0.0)
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 41, dtype=torch.float64)] * 2, indexing="ij")
    blob = torch.exp(-(((rows - 0.2) / 0.3) ** 2 + ((columns + 0.1) / 0.2) ** 2)).expand(2, 1, 41, 41)
    moved = limits.apply(blob, parameters(*shares)[:, :4], "zeros")
    assert (moved - blob).abs().max() > 0.2
    back = limits.undo(moved[:, 0], parameters(*shares)[:, :4])
    torch.testing.assert_close(back, blob[:, 0], rtol=0, atol=0.05)


def test_the_gradient_in_the_parameters_is_that_of_finite_differences():
    limits = Limits(40.0, 2.0, 0.3)
    shares = torch.tensor([[0.31, 0.22, -0.43, 0.1, -0.2, 0.3]] * 2, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda point: limits.apply(IMAGES * 0.6, point, "zeros"), shares)
    assert torch.autograd.gradcheck(lambda point: limits.undo(IMAGES[:, 0], point), shares)


# ---- search


def climb(attack, problem, epsilons=(0.25, 0.5, 1.0)):
    best, found = attack.start(problem), []
    for epsilon in epsilons:
        best = attack.search(problem, epsilon, "spatial", best)
        found.append(best)
    return found


@pytest.mark.parametrize(
    "attack",
    [ATTACK, replace(ATTACK, align=True), replace(ATTACK, samples=0), replace(ATTACK, colour=0.0, restarts=2)],
)
def test_transforms_hold_their_budget_and_harm_never_falls(quadratic, attack):
    previous = attack.start(quadratic)
    assert torch.equal(previous.images, quadratic.images)
    assert previous.notes["transform_size"].eq(0).all()
    for epsilon, best in zip((0.25, 0.5, 1.0), climb(attack, quadratic), strict=True):
        names = ("rotation", "shift_down", "shift_right", "gain_0")
        shares = torch.stack([best.notes[name] for name in names], dim=1)
        assert torch.equal(best.notes["transform_size"], shares.abs().amax(1))
        assert (best.notes["transform_size"] <= epsilon).all()
        assert torch.equal(attack.limits.apply(quadratic.images, shares.float(), "zeros"), best.images)
        assert ((best.images >= 0) & (best.images <= 1)).all()
        assert (best.harm >= previous.harm).all()
        assert torch.equal(quadratic.model(best.images).argmax(1), quadratic.targets)
        assert torch.equal(best.found, best.notes["transform_size"] > 0)
        previous = best
    assert previous.found.all()
    if attack.colour == 0:
        assert previous.notes["gain_0"].eq(0).all()


def test_harm_is_that_of_the_kept_image(quadratic):
    best = climb(ATTACK, quadratic)[-1]
    maps = [
        quadratic.explain(quadratic.model, each, quadratic.targets, quadratic.keys)
        for each in (quadratic.images, best.images)
    ]
    torch.testing.assert_close(quadratic.harm(*maps), best.harm)


def test_ascent_finds_more_than_its_samples(quadratic, original):
    center = MassCenter()
    value = center.bind(original)
    quadratic = replace(quadratic, harm=lambda reference, maps: value(maps, None))
    attack = replace(ATTACK, objective=center, steps=20)
    best = attack.start(quadratic)
    sampled = [replace(attack, steps=1, step_size=1e-9), attack]
    few, many = (each.search(quadratic, 1.0, "spatial", best).harm for each in sampled)
    assert (many >= few).all()
    assert many.mean() > 1.05 * few.mean()


def test_a_map_that_moves_with_its_image_is_no_harm_once_aligned(quadratic):
    """A map that is the image itself moves as it does: moved back it is the old one but for the border."""
    image = torch.zeros(6, 1, 9, 9)
    image[:, :, 3:6, 3:6] = 0.8
    problem = replace(quadratic, model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(81, 2)), images=image)
    problem = replace(
        problem,
        targets=problem.model(image).argmax(1),
        explain=lambda model, images, targets, keys: images.sum(dim=1),
        twin=lambda beta: problem.model,
        partners=image,
    )
    shifted = replace(ATTACK, rotation=0.0, colour=0.0, shift=2.0, steps=1, step_size=1e-9)
    plain, aligned = (climb(replace(shifted, align=align), problem)[-1].harm for align in (False, True))
    assert plain.mean() > 1
    assert aligned.mean() < 0.2 * plain.mean()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"rotation": 181.0}, "attack.rotation"),
        ({"shift": -1.0}, "attack.shift"),
        ({"colour": 1.5}, "attack.colour"),
        ({"rotation": 0.0, "shift": 0.0, "colour": 0.0}, "attack.rotation"),
        ({"samples": -1}, "attack.samples"),
        ({"update": "adam", "step_size": 1.0}, "attack.update"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        replace(ATTACK, **options)
