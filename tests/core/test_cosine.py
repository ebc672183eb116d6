"""Cosines of maps, where some show nothing."""

import torch

from runner.core.cosine import map_cosines, mean_cosine


def test_two_zero_maps_have_no_cosine_and_are_left_out_of_the_mean() -> None:
    first = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    second = torch.tensor([[[4.0, 3.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[-2.0, 0.0]]])
    cosines = map_cosines(first, second)
    torch.testing.assert_close(cosines, torch.tensor([0.96, 0.0, torch.nan, -1.0]).double(), equal_nan=True)
    assert abs((mean_cosine(cosines) or 0.0) + 0.04 / 3) < 1e-7
    assert mean_cosine(cosines[2:3]) is None
