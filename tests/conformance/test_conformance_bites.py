"""The properties find out plug-ins that break them: each of these is a good one with one thing wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import test_conformance_attack as of_attack
import test_conformance_attribution as of_attribution
import test_conformance_certificate as of_certificate
import test_conformance_defense as of_defense
import test_conformance_metrics as of_metrics
import torch
from found import Plugin

Wrong = Callable[..., Any]


class Wrapped:
    """The plug-in with some of its methods and attributes replaced; `_good` is the good one."""

    def __init__(self, good: Any, changes: dict[str, Any]) -> None:
        self.__dict__.update(_good=good, _call=changes.get("call"), **changes)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._good, name)
        return value

    def __call__(self, *args: Any) -> Any:
        return self._call(self._good, *args) if self._call else self._good(*args)


class Broken(Plugin):
    """One YAML of conf/ whose object has something wrong."""

    def __init__(self, group: str, name: str, **changes: Any) -> None:
        super().__init__(group, name)
        object.__setattr__(self, "wrong", changes)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def build(self, **changes: Any) -> Any:
        good = super().build(**changes)
        methods = ("search", "loss")
        given = {k: (lambda *a, f=v: f(good, *a)) if k in methods else v for k, v in self.wrong.items()}
        return Wrapped(good, given)


def searching(change: Callable[..., Any]) -> Wrong:
    return lambda good, problem, epsilon, norm, best: change(problem, good.search(problem, epsilon, norm, best), best)


def overstepping(problem: Any, found: Any, best: Any) -> Any:
    return replace(found, images=(problem.images + 1.3 * (found.images - problem.images)).clamp(0, 1))


def forgetting(problem: Any, found: Any, best: Any) -> Any:
    return replace(found, harm=best.harm - 1)


def sharing(problem: Any, found: Any, best: Any) -> Any:
    return replace(found, harm=found.harm + found.harm.mean())


def training(problem: Any, found: Any, best: Any) -> Any:
    problem.model.train()
    return found


def seedless(good: Any, problem: Any, *rest: Any) -> Any:
    return good.search(replace(problem, keys=torch.zeros_like(problem.keys)), *rest)


def flipping(problem: Any, found: Any, best: Any) -> Any:
    return replace(found, images=problem.images.flip(0), found=torch.ones_like(found.found))


def kinked(good: Any, model: Any, batch: Any) -> Any:
    loss, scalars = good.loss(model, batch)
    loss.register_hook(lambda gradient: 1.01 * gradient)
    return loss, scalars


def drawn(good: Any, model: Any, batch: Any) -> Any:
    loss, scalars = good.loss(model, batch)
    return loss + torch.rand(()), scalars


ATTACKS = [
    (of_attack.test_images_stay_inside_the_ball_and_the_box, "random_sign", searching(overstepping)),
    (of_attack.test_harm_never_falls_as_the_budget_grows, "random_sign", searching(forgetting)),
    (of_attack.test_neither_batch_nor_order_nor_chunk_matters, "random_sign", searching(sharing)),
    (of_attack.test_equal_calls_give_equal_bits_and_leave_the_model_alone, "random_sign", searching(training)),
    (of_attack.test_another_seed_gives_other_random_numbers, "random_sign", seedless),
    (of_attack.test_the_label_is_kept_where_that_is_promised, "random_sign", searching(flipping)),
]
ATTRIBUTIONS = [
    (of_attribution.test_keys_matter_if_it_says_that_it_is_stochastic, "saliency", {"stochastic": True}),
    (of_attribution.test_keys_matter_if_it_says_that_it_is_stochastic, "smoothgrad", {"stochastic": False}),
    (
        of_attribution.test_neither_batch_nor_order_nor_chunk_matters,
        "saliency",
        {"call": lambda good, model, images, *rest: (maps := good(model, images, *rest)) / maps.abs().max()},
    ),
    (
        of_attribution.test_there_is_no_graph_unless_one_is_asked_for,
        "saliency",
        {"call": lambda good, model, images, *rest: good(model, images, *rest) * model.network[0].bias.sum()},
    ),
    (
        of_attribution.test_its_gradient_is_that_of_finite_differences,
        "saliency",
        {"call": lambda good, model, images, *rest: good(model, images, *rest) * (1 + images.detach())},
    ),
    (
        of_attribution.test_the_model_and_the_images_are_left_as_they_were,
        "saliency",
        {"call": lambda good, model, *rest: good(model.train(), *rest)},
    ),
    (
        of_attribution.test_its_values_are_those_of_the_oracle,
        "saliency",
        {"call": lambda good, *rest: 1.001 * good(*rest)},
    ),
    (
        of_attribution.test_no_pass_is_larger_than_the_chunk,
        "smoothgrad",
        {"call": lambda good, *rest: replace(good, chunk=None)(*rest)},
    ),
]
METRICS = [
    (of_metrics.test_it_is_symmetric_if_and_only_if_it_says_so, "l2_ratio", {"symmetric": True}),
    (of_metrics.test_it_is_symmetric_if_and_only_if_it_says_so, "mse", {"symmetric": False}),
    (of_metrics.test_a_factor_counts_if_and_only_if_it_says_so, "ssim", {"scale_invariant": True}),
    (of_metrics.test_a_map_and_itself_are_at_the_robust_end, "mse", {"direction": "higher"}),
    (of_metrics.test_a_growing_change_moves_away_from_the_robust_end, "pearson", {"direction": "lower"}),
    (of_metrics.test_values_are_finite_float64_inside_the_range, "mass_center_shift", {"range": (0.0, 0.1)}),
    (of_metrics.test_its_values_are_those_of_the_oracle, "spearman", {"call": lambda good, *maps: good(*maps) ** 2}),
]
DEFENSES = [
    (of_defense.test_its_gradient_is_that_of_finite_differences, kinked),
    (of_defense.test_equal_batches_give_equal_bits, drawn),
    (
        of_defense.test_the_loss_is_a_mean_over_the_batch,
        lambda good, model, batch: (good.loss(model, batch)[0] * len(batch.images), {}),
    ),
    (
        of_defense.test_the_model_and_the_batch_are_left_as_they_were,
        lambda good, model, batch: good.loss(model.eval(), batch),
    ),
    (
        of_defense.test_it_is_a_defense_with_a_scalar_loss,
        lambda good, model, batch: (good.loss(model, batch)[0], {"penalty": good.loss(model, batch)[0]}),
    ),
]


def names(value: Any) -> str | None:
    return getattr(value, "__name__", None) if callable(value) else (value if isinstance(value, str) else "")


@pytest.mark.parametrize(("prop", "name", "wrong"), ATTACKS, ids=names)
def test_a_false_attack_is_found(prop: Wrong, name: str, wrong: Wrong) -> None:
    with pytest.raises(AssertionError):
        prop(Broken("attack", name, search=wrong))


@pytest.mark.parametrize(("prop", "name", "wrong"), ATTRIBUTIONS, ids=names)
def test_a_false_attribution_is_found(prop: Wrong, name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        prop(Broken("attribution", name, **wrong))


@pytest.mark.parametrize(("prop", "name", "wrong"), METRICS, ids=names)
def test_a_false_metric_is_found(prop: Wrong, name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        prop(Broken("metrics", name, **wrong))


@pytest.mark.parametrize(("prop", "wrong"), DEFENSES, ids=names)
def test_a_false_defense_is_found(prop: Wrong, wrong: Wrong) -> None:
    with pytest.raises(AssertionError):
        prop(Broken("defense", "ssr", loss=wrong))


def test_a_false_certificate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("certificate", "levine_topk")
    monkeypatch.setattr(of_certificate, "bounds_of", lambda _: torch.ones(5, 3, dtype=torch.float64))
    with pytest.raises(AssertionError):
        of_certificate.test_no_perturbation_inside_the_budget_beats_it(plugin)
