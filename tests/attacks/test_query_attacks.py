"""Black-box attacks: what they ask, how often, and what they find on a quadratic model whose map A x is known."""

import math
from dataclasses import replace

import pytest
import torch

from runner.attacks.judge import Judge
from runner.attacks.nes import NaturalEvolution
from runner.attacks.one_step import OneStep
from runner.attacks.random import RandomAttack
from runner.attacks.square import SquareSearch, moved_budget, placed, pyramids, stripes, tiles, window
from runner.core import rng
from runner.core.attack_types import Problem
from runner.core.errors import ConfigError
from runner.core.norms import lengths

NES = NaturalEvolution("any", queries=33, pairs=5)
SQUARE = SquareSearch("any", queries=30)
ONE = OneStep("any", share=0.4)
KEYS = rng.example_keys(0, range(6))
DELTAS = torch.rand(6, 2, 8, 9, generator=torch.Generator().manual_seed(3)) * 0.05


def climb(attack, problem: Problem, norm: str, epsilons=(0.05, 0.2, 0.5)):
    best, found = attack.start(problem), []
    for epsilon in epsilons:
        best = attack.search(problem, epsilon, norm, best)
        found.append(best)
    return found


@pytest.mark.parametrize("attack", [NES, SQUARE, ONE], ids=lambda a: type(a).__name__)
def test_a_map_without_gradients_is_attacked(quadratic, attack):
    def explain(model, images, targets, keys):
        assert not images.requires_grad
        with torch.no_grad():
            return (images.flatten(1) @ quadratic.model.matrix).reshape(-1, 3, 4)

    found = climb(attack, replace(quadratic, explain=explain), "l2", (0.3,))[-1]
    assert (found.harm > 1e-4).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("attack", [NES, SQUARE], ids=lambda a: type(a).__name__)
def test_it_beats_random_draws_at_the_same_number_of_queries(quadratic, norm, attack):
    """An 8 x 8 image, a map that is linear in it with random weights of both signs, 330 queries."""
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(64, 64, generator=generator)
    images = torch.full((6, 1, 8, 8), 0.5)
    problem = replace(
        quadratic,
        images=images,
        partners=images,
        model=lambda x: torch.stack((x.mean((1, 2, 3)), x[:, 0, 0, 0] - 9), 1),
    )
    problem = replace(problem, targets=torch.zeros(6, dtype=torch.long))
    problem = replace(problem, explain=lambda model, x, targets, keys: (x.flatten(1) @ matrix).reshape(-1, 8, 8))
    ours = climb(replace(attack, queries=330), problem, norm, (0.1,))[-1]
    random = climb(RandomAttack("any", "ball", 330), problem, norm, (0.1,))[-1]
    assert ours.harm.mean() > 1.2 * random.harm.mean()


def test_more_queries_find_more(quadratic):
    for attack in (NES, SQUARE):
        few, many = (climb(replace(attack, queries=queries), quadratic, "l2", (0.3,))[-1] for queries in (11, 330))
        assert many.harm.mean() > few.harm.mean()


@pytest.mark.parametrize(
    ("attack", "start", "each"), [(NES, 1, 33), (replace(NES, queries=43), 1, 33), (SQUARE, 1, 30), (ONE, 2, 1)]
)
def test_queries_are_counted(quadratic, attack, start, each):
    asked = []

    def explain(model, images, targets, keys):
        asked.append(len(images))
        return quadratic.explain(model, images, targets, keys)

    problem = replace(quadratic, explain=explain)
    best = attack.start(problem)
    assert best.notes["queries"].tolist() == [start] * 6
    for number in (1, 2):
        asked.clear()
        best = attack.search(problem, 0.2 * number, "l2", best)
        assert best.notes["queries"].tolist() == [start + number * each] * 6
        known = 1 if attack is not ONE else 2  # the clean map, and the partner's
        assert len(asked) == each + known
        assert set(asked) == {6}


def test_an_example_whose_label_always_flips_is_unharmed(quadratic):
    class Flips(torch.nn.Module):
        def forward(self, images):
            changed = (images != quadratic.images).flatten(1).any(1)
            logits = quadratic.model(images)
            return torch.where(changed[:, None], logits.flip(1), logits)

    for attack in (NES, SQUARE):
        best = climb(attack, replace(quadratic, model=Flips()), "l2")[-1]
        assert torch.equal(best.images, quadratic.images)
        assert not best.found.any()


# NES


def test_the_estimate_is_the_formula_of_antithetic_directions(quadratic):
    """Harm w'x has finite differences 2 sigma w'u: the estimate is sum 2 sigma (w'u) u, and tends to the direction of w."""
    weights = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))
    score = lambda maps, probabilities: (maps * weights).flatten(1).sum(1)  # noqa: E731
    problem = replace(quadratic, explain=lambda model, images, targets, keys: images[:, 0])
    estimate = replace(NES, pairs=4, queries=9)._estimate(Judge(problem, score), problem.images, KEYS)
    expected = torch.zeros_like(problem.images)
    for pair in range(4):
        direction = rng.normal(rng.fold(KEYS, pair), (1, 3, 4))
        expected += 2 * NES.sigma * (direction * weights).flatten(1).sum(1).reshape(-1, 1, 1, 1) * direction
    torch.testing.assert_close(estimate, expected, rtol=1e-3, atol=1e-5)
    many = replace(NES, pairs=500, queries=1001)._estimate(Judge(problem, score), problem.images, KEYS)
    cosine = torch.nn.functional.cosine_similarity(many.flatten(1), weights.flatten().expand(6, -1), dim=1)
    assert (cosine > 0.95).all()


@pytest.mark.parametrize(("draws", "distinct"), [("fresh", 4), ("common", 1)])
def test_draws_say_whether_the_noise_changes_between_steps(quadratic, draws, distinct):
    seen = set()

    def explain(model, images, targets, keys):
        seen.add(int(keys[0]))
        return quadratic.explain(model, images, targets, keys)

    climb(replace(NES, draws=draws), replace(quadratic, explain=explain), "l2", (0.1,))
    assert len(seen) == distinct


def test_images_that_are_asked_about_lie_in_the_box(quadratic):
    def explain(model, images, targets, keys):
        assert ((images >= 0) & (images <= 1)).all()
        return quadratic.explain(model, images, targets, keys)

    climb(replace(NES, sigma=2.0), replace(quadratic, explain=explain), "linf")


# Square search


def test_pyramids_have_the_values_of_the_paper():
    """Side 3: a half of one row (n = 1, distances 1 0 1) and one of two rows (n = 1, the second through its centre)."""
    upper = torch.tensor([[0.25, 1.25, 0.25]])
    lower = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    expected = torch.cat((upper / upper.norm(), -lower / lower.norm())) / math.sqrt(2)
    torch.testing.assert_close(pyramids(3), expected)
    for side in (1, 2, 5, 8):
        assert pyramids(side).shape == (side, side)
        assert pyramids(side).norm().item() == pytest.approx(1.0)


@pytest.mark.parametrize(("queries", "scale"), [(10_000, 1), (1000, 10)])
def test_squares_shrink_by_the_schedule_of_the_paper(queries, scale):
    attack = SquareSearch("any", queries=queries, share=0.1)
    shape = torch.Size((1, 1, 32, 32))
    sides = [attack.side(query // scale, shape) for query in (0, 10, 20, 60, 300, 700, 1500, 3000, 5000, 7000, 9000)]
    covered = [102.4 / halved for halved in (1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)]
    assert sides == [max(round(math.sqrt(pixels)), 1) for pixels in covered]


def test_windows_are_squares_inside_the_image_anywhere():
    for side in (1, 3, 8):
        squares = window(DELTAS, KEYS, side)
        assert squares.flatten(1).sum(1).tolist() == [side**2] * 6
        assert all(squares[n, 0].any(1).sum() == side == squares[n, 0].any(0).sum() for n in range(6))
    many = rng.example_keys(1, range(300))
    corners = {
        tuple(square.nonzero()[0].tolist()) for square in window(DELTAS[:1].expand(300, -1, -1, -1), many, 3)[:, 0]
    }
    assert {row for row, _ in corners} == set(range(6))
    assert {column for _, column in corners} == set(range(7))


def test_the_shape_lies_in_its_square_either_way_round():
    keys = rng.example_keys(2, range(30))
    squares = window(DELTAS[:1].expand(30, -1, -1, -1), keys, 4)
    shapes = placed(squares, keys, 4)
    assert (shapes[~squares] == 0).all()
    seen = {True: 0, False: 0}
    for shape, square in zip(shapes, squares, strict=True):
        values = shape[square].reshape(4, 4)
        assert torch.equal(values, pyramids(4)) or torch.equal(values, pyramids(4).T)
        seen[torch.equal(values, pyramids(4))] += 1
    assert min(seen.values()) > 5


def test_a_moved_budget_is_spent_whole_and_empties_the_second_square():
    moved = moved_budget(DELTAS, KEYS, 3, epsilon=0.9)
    assert (lengths(DELTAS, "l2") < 0.9).all()
    torch.testing.assert_close(lengths(moved, "l2"), torch.full((6,), 0.9))
    first, second = window(DELTAS, KEYS, 3), window(DELTAS, rng.fold(KEYS, 1), 3)
    only_second = (second & ~first).expand_as(moved)
    assert (moved[only_second] == 0).all()
    outside = ~(first | second).expand_as(moved)
    assert torch.equal(moved[outside], DELTAS[outside])
    full = DELTAS * (0.9 / lengths(DELTAS, "l2")).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(lengths(moved_budget(full, KEYS, 3, 0.9), "l2"), torch.full((6,), 0.9))


def test_first_candidates_spend_the_budget():
    torch.testing.assert_close(lengths(tiles(DELTAS, KEYS, 0.7), "l2"), torch.full((6,), 0.7))
    lines = stripes(DELTAS, KEYS, 0.1)
    assert lines.unique().tolist() == pytest.approx([-0.1, 0.1])
    assert (lines == lines[:, :, :1]).all()


# One step


def test_the_injection_is_the_most_important_pixels_of_the_partner(quadratic):
    injected = ONE.injection(quadratic)
    classes = quadratic.model(quadratic.partners).argmax(1)
    maps = quadratic.explain(quadratic.model, quadratic.partners, classes, quadratic.keys)
    for n in range(6):
        top = set(maps[n].flatten().topk(5).indices.tolist())  # round(0.4 * 12 pixels)
        for pixel in range(12):
            change = injected[n].flatten()[pixel]
            full = (quadratic.partners[n] - quadratic.images[n]).flatten()[pixel]
            assert change == (full if pixel in top else 0)


def test_the_whole_injection_is_made_without_a_budget(quadratic):
    unlabelled = replace(
        quadratic, model=lambda images: torch.ones(len(images), 2), targets=torch.zeros(6, dtype=torch.long)
    )
    unlabelled = replace(unlabelled, explain=lambda model, images, targets, keys: images[:, 0])
    best = climb(ONE, unlabelled, "l2", (float("inf"),))[-1]
    torch.testing.assert_close(best.images, quadratic.images + ONE.injection(unlabelled))


@pytest.mark.parametrize(
    ("attack", "options", "key"),
    [
        (NES, {"queries": 10}, "attack.queries=10: must be at least the 11 of one step"),
        (NES, {"pairs": 0}, "attack.pairs"),
        (NES, {"sigma": 0.0}, "attack.sigma"),
        (NES, {"step_size": 0.0}, "attack.step_size"),
        (NES, {"momentum": 1.0}, "attack.momentum"),
        (SQUARE, {"queries": 0}, "attack.queries"),
        (SQUARE, {"share": 0.0}, "attack.share"),
        (ONE, {"share": 1.5}, "attack.share"),
        *((attack, {"measure": "objective"}, "attack.measure") for attack in (NES, SQUARE, ONE)),
    ],
)
def test_bad_options_are_refused_by_name(attack, options, key):
    with pytest.raises(ConfigError, match=key):
        replace(attack, **options)


@pytest.mark.parametrize("attack", [NES, SQUARE], ids=lambda a: type(a).__name__)
def test_a_search_needs_a_budget(quadratic, attack):
    with pytest.raises(ConfigError, match=r"epsilon\.values=inf"):
        climb(attack, quadratic, "l2", (float("inf"),))
