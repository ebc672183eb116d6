"""Objectives against values computed by hand."""

import pytest
import torch

from runner.attacks.objectives import Manipulate, MassCenter, Original, TopK, TopKOverlap, mass_centers, shares
from runner.core.errors import ConfigError

MAPS = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
PROBABILITIES = torch.tensor([[0.75, 0.25]])


def original(partner=MAPS):
    return Original(MAPS, PROBABILITIES, lambda: partner)


def test_topk_is_minus_the_share_of_mass_on_the_original_pixels():
    value = TopK(k=2).bind(original())
    assert value(MAPS, PROBABILITIES).item() == pytest.approx(-0.7)
    assert value(torch.tensor([[[1.0, 1.0], [4.0, 4.0]]]), PROBABILITIES).item() == pytest.approx(-0.2)


def test_topk_of_the_current_map_follows_the_map():
    value = TopK(k=2, mask="current").bind(original())
    assert value(torch.tensor([[[1.0, 1.0], [4.0, 4.0]]]), PROBABILITIES).item() == pytest.approx(-0.8)


@pytest.mark.parametrize("objective", [TopK, TopKOverlap])
def test_topk_refuses_a_k_above_the_pixels(objective):
    with pytest.raises(ConfigError, match=r"metrics.k=5: must be at most the 4 pixels"):
        objective(k=5).bind(original())


def test_the_overlap_counts_pixels_above_the_border_smoothly():
    """The border is the second largest value, 3: sigmoids of 4/3 - 1, 0 (originally in) and 2/3 - 1, 1/3 - 1 (out), by 0.5."""
    inside, outside = (torch.tensor(values).sigmoid().sum() for values in ([2 / 3, 0.0], [-2 / 3, -4 / 3]))
    value = TopKOverlap(k=2, temperature=0.5).bind(original())
    assert value(MAPS, PROBABILITIES).item() == pytest.approx(float(outside - inside) / 2)


def test_a_narrow_border_counts_as_the_metric_does():
    """1 - 2 * (share of the original top k that is left), but for the pixel on the border, which counts half."""
    value = TopKOverlap(k=2, temperature=1e-3).bind(original())
    assert value(torch.tensor([[[1.0, 3.0], [4.0, 2.0]]]), PROBABILITIES).item() == pytest.approx((1 - 0.5) / 2)
    assert value(torch.zeros(1, 2, 2), PROBABILITIES).isfinite().all()


def test_mass_center_is_the_squared_distance_of_the_centres():
    torch.testing.assert_close(mass_centers(MAPS), torch.tensor([[0.3, 0.4]]))
    value = MassCenter().bind(original())
    corner = torch.tensor([[[0.0, 0.0], [0.0, 7.0]]])
    assert value(corner, PROBABILITIES).item() == pytest.approx(0.7**2 + 0.6**2)


def test_manipulate_weighs_map_and_output():
    target = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    value = Manipulate(map_weight=100.0, output_weight=10.0).bind(original(target))
    expected = 100 * (0.15**2 + 0.05**2 + 0.05**2 + 0.15**2) / 4 + 10 * 0.05**2
    assert value(MAPS, torch.tensor([[0.7, 0.3]])).item() == pytest.approx(-expected, rel=1e-5)
    assert value(target, PROBABILITIES).item() == 0.0


def test_maps_that_sum_to_their_pixels_weigh_more():
    target = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    one = Manipulate(1.0, 0.0).bind(original(target))(MAPS, PROBABILITIES).item()
    released = Manipulate(1.0, 0.0, map_sum=None).bind(original(target))(MAPS, PROBABILITIES).item()
    assert released == pytest.approx(16 * one, rel=1e-5)


def test_a_zero_map_has_zero_shares():
    assert torch.equal(shares(torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2))


def test_the_gradient_of_the_overlap_is_that_with_a_fixed_border():
    value, k, width = TopKOverlap(k=2, temperature=0.5).bind(original()), 2, 0.5
    maps = torch.tensor([[[1.0, 3.0], [4.0, 2.5]]], requires_grad=True)
    (found,) = torch.autograd.grad(value(maps, PROBABILITIES).sum(), maps)
    again = maps.detach().requires_grad_()
    above = ((shares(again) / (3.0 / 10.5) - 1) / width).sigmoid()
    signs = torch.tensor([[[-1.0, -1.0], [1.0, 1.0]]])
    torch.testing.assert_close(found, torch.autograd.grad((above * signs).sum() / k, again)[0])
