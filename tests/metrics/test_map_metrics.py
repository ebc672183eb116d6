"""Pearson, SSIM, MSE, the l2 ratio and the locality-sensitive metrics against libraries, loops and hand-made maps."""

import math

import captum.metrics
import numpy as np
import pytest
import scipy.stats
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from runner.core.errors import ConfigError
from runner.metrics.l2_ratio import L2Ratio
from runner.metrics.lens_precision import LensPrecision
from runner.metrics.lens_recall import LensRecall
from runner.metrics.mse import MeanSquaredError
from runner.metrics.neighbourhood import dilate, diverse_top
from runner.metrics.pearson import Pearson
from runner.metrics.ssim import StructuralSimilarity
from runner.metrics.topk_diversity import TopKDiversity
from runner.metrics.topk_intersection import TopKIntersection


def pairs(count=40, shape=(13, 17), scale=1.0, levels=None):
    generator = torch.Generator().manual_seed(3)
    first, noise = torch.rand(2, count, *shape, generator=generator)
    second = first + torch.linspace(-1, 1, count).reshape(-1, 1, 1) * noise
    if levels:
        first, second = ((maps * levels).round() for maps in (first, second))
    return first * scale, second * scale


def scaled_together(first, second):
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    return (np.asarray(first, np.float64) - low) / (high - low), (np.asarray(second, np.float64) - low) / (high - low)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_pearson_equals_scipy(scale):
    first, second = pairs(scale=scale)
    expected = [
        scipy.stats.pearsonr(a.double().flatten(), b.double().flatten()).statistic
        for a, b in zip(first, second, strict=True)
    ]
    assert Pearson()(first, second).tolist() == pytest.approx(expected, abs=1e-9)


def test_pearson_of_constant_maps():
    varying = torch.arange(6.0).reshape(1, 2, 3)
    constant = torch.full_like(varying, 0.3)
    assert Pearson()(constant, 7 * constant).isnan().all()
    assert Pearson()(constant, varying).item() == 0.0
    assert Pearson()(varying, 2 - 3 * varying).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("shape", [(11, 11), (13, 17), (28, 28)])
def test_ssim_equals_scikit_image(shape):
    first, second = pairs(12, shape, scale=7.0)
    second = second - 2.0
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = [
        structural_similarity(*scaled_together(a.numpy(), b.numpy()), **settings)
        for a, b in zip(first, second, strict=True)
    ]
    assert StructuralSimilarity()(first, second).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape", "radius"), [((8, 8), 3), ((10, 30), 4), ((1, 5), 0)])
def test_ssim_cuts_its_window_on_small_maps(shape, radius):
    """The formula on scipy's Gaussian means of the radius that fits."""
    first, second = pairs(5, shape)
    for a, b, found in zip(first, second, StructuralSimilarity()(first, second).tolist(), strict=True):
        x, y = scaled_together(a.numpy(), b.numpy())
        mx, my, xx, yy, xy = (
            gaussian_filter(values, 1.5, radius=radius) if radius else values for values in (x, y, x * x, y * y, x * y)
        )
        index = (2 * mx * my + 1e-4) * (2 * (xy - mx * my) + 9e-4)
        index /= (mx**2 + my**2 + 1e-4) * (xx - mx**2 + yy - my**2 + 9e-4)
        inside = index[radius : shape[0] - radius, radius : shape[1] - radius]
        assert found == pytest.approx(inside.mean(), abs=1e-9)


def test_ssim_sees_a_change_of_scale():
    first, _ = pairs(3)
    assert (StructuralSimilarity()(first, 0.5 * first) < 0.9).all()
    assert StructuralSimilarity()(first * 0 + 0.3, first * 0 + 0.3).tolist() == [1.0] * 3


def test_mse_by_hand():
    first = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    second = torch.tensor([[[5.0, 0.0], [5.0, 0.0]], [[0.0, 0.0], [0.0, -9.0]], [[1.0, 0.0], [0.0, 0.0]]])
    expected = [(0.25**2 + 0.75**2 + 0.5**2) / 4, 2 / 4, (0.75**2 + 3 * 0.25**2) / 4]
    assert MeanSquaredError()(first, second).tolist() == pytest.approx(expected, abs=1e-15)


def test_l2_ratio_by_hand():
    first = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    second = torch.tensor([[[3.0, 4.5]], [[3.0, 4.0]], [[0.0, 0.0]]])
    assert L2Ratio()(first, second).tolist() == pytest.approx([0.1, 5.0, math.nan], nan_ok=True)


def test_the_largest_l2_ratio_is_the_sensitivity_of_captum():
    """Over the same neighbours; the third image has a zero map, which Captum counts as one of norm 1."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(3, 1, 5, 5, generator=generator, dtype=torch.float64)
    images[2] = 0.0
    noise = torch.rand(3 * 6, 1, 5, 5, generator=generator, dtype=torch.float64) * 0.1

    def explain(inputs):
        return tuple(values**3 for values in inputs) if isinstance(inputs, tuple) else inputs**3

    expected = captum.metrics.sensitivity_max(explain, images, lambda inputs: inputs + noise, n_perturb_samples=6)
    repeated = images.repeat_interleave(6, dim=0)
    ratios = L2Ratio()(explain(repeated).squeeze(1), explain(repeated + noise).squeeze(1))
    torch.testing.assert_close(ratios.reshape(3, 6).amax(dim=1), expected)


def near(chosen, width, window):
    """Pixels (row, column) within the window of a chosen flat position."""
    reach = window // 2
    return {
        (place // width + dy, place % width + dx)
        for place in chosen
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    }


def greedy(values, k, width, window):
    """Top-k-div of one flat map, one pixel after the other."""
    left = list(np.argsort(-values, kind="stable"))
    chosen = []
    while left and len(chosen) < k:
        chosen.append(left[0])
        taken = near([left[0]], width, window)
        left = [place for place in left if (place // width, place % width) not in taken]
    return chosen


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("diverse", [False, True])
def test_lens_equals_a_loop(levels, window, diverse):
    first, second = pairs(20, (9, 12), levels=levels)
    k, width = 6, 12
    recall, precision = [], []
    for a, b in zip(first.flatten(1).numpy(), second.flatten(1).numpy(), strict=True):
        tops = [
            greedy(values, k, width, window) if diverse else list(np.argsort(-values, kind="stable")[:k])
            for values in (a, b)
        ]
        places = [{(place // width, place % width) for place in top} for top in tops]
        recall.append(len(near(tops[0], width, window) & places[1]) / len(places[1]))
        precision.append(len(places[0] & near(tops[1], width, window)) / len(places[0]))
    assert LensRecall(k, window, diverse)(first, second).tolist() == pytest.approx(recall, abs=1e-12)
    assert LensPrecision(k, window, diverse)(first, second).tolist() == pytest.approx(precision, abs=1e-12)
    assert LensPrecision(k, window, diverse)(second, first).tolist() == pytest.approx(recall, abs=1e-12)


def test_a_shift_by_one_pixel_costs_lens_nothing_and_the_intersection_everything():
    first = torch.zeros(1, 8, 8)
    first[0, 2, 2], first[0, 5, 5] = 2.0, 1.0
    second = first.roll(1, dims=2)
    assert TopKIntersection(2)(first, second).item() == 0.0
    assert LensRecall(2)(first, second).item() == LensPrecision(2)(first, second).item() == 1.0
    assert LensRecall(2, window=1)(first, second).item() == 0.0


def test_windows_end_at_the_border():
    """The released code works on flat indices: its windows reach the other side of the map."""
    first, second = torch.zeros(2, 1, 4, 5)
    first[0, 1, 4], second[0, 2, 0] = 1.0, 1.0
    assert LensRecall(1)(first, second).item() == 0.0
    grown = dilate(first > 0, 3)[0].nonzero().tolist()
    assert grown == [[row, column] for row in (0, 1, 2) for column in (3, 4)]


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize(("k", "window"), [(1, 3), (5, 3), (12, 3), (4, 5), (40, 3), (108, 1)])
def test_diverse_pixels_equal_a_loop(levels, k, window):
    first, _ = pairs(20, (9, 12), levels=levels)
    found = diverse_top(first, k, window)
    for values, mask in zip(first.flatten(1).numpy(), found.flatten(1), strict=True):
        assert sorted(greedy(values, k, 12, window)) == mask.nonzero().flatten().tolist()


def test_top_k_diversity_by_hand():
    first = torch.tensor([[[9.0, 8.0, 1.0, 7.0, 0.0, 6.0]]])
    second = torch.tensor([[[9.0, 0.0, 8.0, 0.0, 7.0, 6.5]]])
    assert TopKIntersection(3)(first, second).item() == pytest.approx(1 / 3)
    assert diverse_top(first, 3, 3)[0, 0].tolist() == [True, False, False, True, False, True]
    assert diverse_top(second, 3, 3)[0, 0].tolist() == [True, False, True, False, True, False]
    assert TopKDiversity(3)(first, second).item() == pytest.approx(1 / 3)
    assert TopKDiversity(2)(first, second).item() == pytest.approx(1 / 2)


def test_top_k_diversity_where_the_pixels_run_out():
    """Of six pixels in a row at most three are two apart: the share is of those that there are."""
    first = torch.tensor([[[9.0, 8.0, 1.0, 7.0, 0.0, 6.0]]])
    middle = torch.tensor([[[0.0, 9.0, 0.0, 0.0, 8.0, 0.0]]])
    assert TopKDiversity(6)(first, first).item() == 1.0
    assert TopKDiversity(6)(first, middle).item() == 0.0
    assert diverse_top(middle, 6, 3).sum() == 2
    assert TopKDiversity(6)(first, torch.tensor([[[9.0, 0.0, 0.0, 0.0, 8.0, 0.0]]])).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("metric", "name"),
    [(LensRecall, "lens_recall"), (LensPrecision, "lens_precision"), (TopKDiversity, "topk_diversity")],
)
def test_bad_settings_are_refused_by_name(metric, name):
    with pytest.raises(ConfigError, match=r"metrics\.k=0: must be at least 1"):
        metric(0)
    for window in (0, 4, -3):
        with pytest.raises(ConfigError, match=rf"metrics\.measured\.{name}\.window={window}: must be an odd number"):
            metric(3, window)
    with pytest.raises(ConfigError, match=r"metrics\.k=7: must be at most 6"):
        metric(7)(torch.rand(1, 2, 3), torch.rand(1, 2, 3))
