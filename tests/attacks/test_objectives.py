"""Objectives against values computed by hand."""

import pytest
import torch

from runner.attacks.objectives import Manipulate, MassCenter, Original, TopK, mass_centers, shares
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


def test_topk_refuses_a_k_above_the_pixels():
    with pytest.raises(ConfigError, match=r"metrics.k=5: must be at most the 4 pixels"):
        TopK(k=5).bind(original())


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
