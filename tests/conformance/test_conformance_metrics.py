"""What every metric promises: direction, range, identity, symmetry and scale as it declares them, and rows of its own."""

import dataclasses
from collections.abc import Callable
from functools import cache

import torch
from found import Plugin
from oracles import oracle_of
from torch import Tensor
from world import Passes, explainer, images_of, keys_of, predicted, smooth_network, untouched

from runner.attributions.saliency import Saliency
from runner.core.types import Context, ContextualMetric, Metric, compares, scale_invariant, symmetric

COUNT = 24
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}


@cache
def context() -> Context:
    model, images = smooth_network(), images_of(torch.float64, COUNT)
    moved = (images + 0.2 * (images_of(torch.float64, COUNT, seed=4) - 0.5)).clamp(0.0, 1.0)
    return Context(model, explainer(Saliency(), "sum"), predicted(model, images), images, moved, keys_of(count=COUNT))


def maps(plugin: Plugin) -> tuple[Tensor, Tensor]:
    """Two maps an example, alike in some examples and unlike in others, with ties; signed where the YAML's command says so."""
    first, second = signed_maps()
    return (first, second) if plugin.config["metrics"]["reduction"] == "sum" else (first.abs(), second.abs())


@cache
def signed_maps() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    shape = (COUNT, *context().images.shape[2:])
    first, second = torch.randn(2, *shape, generator=generator, dtype=torch.float64).mul(4).round().div(4)
    second[::4] += first[::4]
    second[1::4] -= first[1::4]
    return first, second


def calling(plugin: Plugin) -> Callable[..., Tensor]:
    """(reference, other, context) -> values, for metrics of maps alone too."""
    metric = plugin.build()
    if isinstance(metric, ContextualMetric):
        return metric
    return lambda reference, other, _: metric(reference, other)


def exchanged(seen: Context) -> Context:
    return dataclasses.replace(seen, images=seen.perturbed, perturbed=seen.images)


def take(seen: Context, rows: Tensor) -> Context:
    names = ("targets", "images", "perturbed", "keys")
    return dataclasses.replace(seen, **{name: getattr(seen, name)[rows] for name in names})


def test_it_is_a_metric_that_says_what_its_values_mean(metrics: Plugin) -> None:
    metric = metrics.build()
    assert isinstance(metric, ContextualMetric if hasattr(metric, "needs_context") else Metric)
    assert metric.direction in ("higher", "lower")
    assert metric.range[0] < metric.range[1]
    assert isinstance(metric.unit, str)


def test_values_are_finite_float64_inside_the_range(metrics: Plugin) -> None:
    values = calling(metrics)(*maps(metrics), context())
    low, high = metrics.build().range
    assert values.shape == (COUNT,)
    assert values.dtype == torch.float64
    assert torch.isfinite(values).all()
    assert low <= values.min() < values.max() <= high


def test_a_map_and_itself_are_at_the_robust_end(metrics: Plugin) -> None:
    """A metric that compares nothing gives what it gives whatever the clean image's map is."""
    metric, value = metrics.build(), calling(metrics)
    first, second = maps(metrics)
    if not compares(metric):
        assert torch.equal(value(first, second, context()), value(second, second, context()))
        return
    robust = metric.range[1] if metric.direction == "higher" else metric.range[0]
    for same in (first, second):
        wanted = torch.full((COUNT,), robust, dtype=torch.float64)
        torch.testing.assert_close(value(same, same, context()), wanted, rtol=0, atol=1e-12)


def test_a_growing_change_moves_away_from_the_robust_end(metrics: Plugin) -> None:
    metric, value = metrics.build(), calling(metrics)
    first, second = maps(metrics)
    values = [value(first, first + weight * second, context()).mean().item() for weight in (0.0, 0.3, 1.0, 10.0)]
    if compares(metric):
        assert values == sorted(values, reverse=metric.direction == "higher")
        assert len(set(values)) == 4


def test_it_is_symmetric_if_and_only_if_it_says_so(metrics: Plugin) -> None:
    first, second = maps(metrics)
    there, back = calling(metrics)(first, second, context()), calling(metrics)(second, first, exchanged(context()))
    assert torch.allclose(there, back, **ROUNDING) is symmetric(metrics.build())


def test_a_factor_counts_if_and_only_if_it_says_so(metrics: Plugin) -> None:
    first, second = maps(metrics)
    values = [calling(metrics)(*pair, context()) for pair in ((first, second), (2.0 * first, 0.25 * second))]
    assert torch.allclose(*values, **ROUNDING) is scale_invariant(metrics.build())
    if isinstance(metrics.build(), Metric) and not isinstance(metrics.build(), ContextualMetric):
        torch.testing.assert_close(calling(metrics)(2.0 * first, 2.0 * second, context()), values[0], **ROUNDING)


def test_rows_depend_on_neither_batch_nor_order(metrics: Plugin) -> None:
    first, second = maps(metrics)
    whole = calling(metrics)(first, second, context())
    for rows in (torch.arange(COUNT).flip(0), torch.tensor([5]), torch.tensor([9, 2, 20])):
        torch.testing.assert_close(
            calling(metrics)(first[rows], second[rows], take(context(), rows)), whole[rows], **ROUNDING
        )


def test_equal_calls_give_equal_bits_and_leave_everything_alone(metrics: Plugin) -> None:
    first, second = maps(metrics)
    seen = context()
    with untouched(seen.model, first, second, seen.images, seen.perturbed, seen.targets, seen.keys):
        values = [calling(metrics)(first, second, seen) for _ in range(2)]
    assert torch.equal(*values)


def test_degenerate_maps_give_rows_inside_the_range_or_none_at_all(metrics: Plugin) -> None:
    """Two zero maps have no value. Two constant maps (1, and 1e-42) may have none; every other pair has one."""
    low, high = metrics.build().range
    odd = torch.zeros(5, *maps(metrics)[0].shape[1:], dtype=torch.float64)
    odd[1], odd[2, 3, 4], odd[3], odd[4] = 1.0, 1.0, 1e-42, maps(metrics)[0][0] * 1e38
    for other in range(5):
        values = calling(metrics)(odd, odd[other].expand_as(odd), take(context(), torch.arange(5)))
        if other == 0:
            assert values[0].isnan()
        undefined = values.isnan().nonzero().flatten().tolist()
        assert set(undefined) <= ({0, 1, 3} if other in (0, 1, 3) else set())
        known = values[values.isfinite()]
        assert low <= known.min() <= known.max() <= high


def test_a_map_that_is_not_finite_has_no_value(metrics: Plugin) -> None:
    """Whether one pixel or all are nan or infinite, in either map; other examples keep their bits."""
    first, second = maps(metrics)
    whole, rest = calling(metrics)(first, second, context()), torch.arange(COUNT) != 5
    for bad in (torch.nan, torch.inf, -torch.inf):
        for pixels in ((5, 2, 3), (5,)):
            spoilt = first.clone(), second.clone()
            for place, pair in ((0, (spoilt[0], second)), (1, (first, spoilt[1])), (0, spoilt)):
                spoilt[place][pixels] = bad
                values = calling(metrics)(*pair, context())
                assert values[5].isnan()
                assert torch.equal(values[rest], whole[rest])


def test_maps_with_a_graph_are_taken_and_need_no_gradient(metrics: Plugin) -> None:
    first, second = (values.clone().requires_grad_() for values in maps(metrics))
    assert not calling(metrics)(first, second, context()).requires_grad


def test_no_pass_is_larger_than_the_chunk(metrics: Plugin) -> None:
    """But for one image an example, which is as many as the maps have."""
    if not hasattr(metrics.build(), "chunk"):
        return
    whole = calling(metrics)(*maps(metrics), context())
    for chunk in (1, COUNT + 5):
        metric = metrics.build(chunk=chunk)
        with Passes() as passes:
            values = metric(*maps(metrics), context())
        assert max(passes.sizes) <= max(COUNT, chunk)
        torch.testing.assert_close(values, whole, **ROUNDING)


def test_its_values_are_those_of_the_oracle(metrics: Plugin) -> None:
    """Of the one that the YAML names, if it names one; with and without ties."""
    generator = torch.Generator().manual_seed(3)
    first, noise = torch.rand(2, COUNT, 13, 17, generator=generator, dtype=torch.float64)
    second = first + torch.linspace(-1, 1, COUNT, dtype=torch.float64).reshape(-1, 1, 1) * noise
    oracle = oracle_of(metrics)
    for levels in (None, 4) if oracle is not None else ():
        pair = [values if levels is None else (values * levels).round() for values in (first, second)]
        expected = oracle(metrics.build(), *pair)
        torch.testing.assert_close(metrics.build()(*pair), expected, rtol=0, atol=1e-9)
