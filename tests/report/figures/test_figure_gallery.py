"""The gallery: tiles, colours, captions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runner.report.data import Gallery, MetricInfo
from runner.report.figures.gallery import caption, coloured, gallery_figure, magnification, rgb, tiles


def make_gallery(change: float = 0.04, channels: int = 1) -> Gallery:
    images = np.full((1, channels, 2, 2), 0.5)
    perturbed = images.copy()
    perturbed[0, 0, 0, 0] += change
    maps = np.array([[[1.0, 0.0], [0.0, 0.0]]])
    examples = [{"role": "worst", "example_id": 7, "label": 1, "prediction": 1, "value": 0.25}]
    return Gallery("g", 0, math.inf, "l2", "spearman", examples, images, perturbed, maps, 0.5 * maps)


def test_the_magnified_perturbation_is_centred_at_grey() -> None:
    gallery = make_gallery()
    assert magnification(gallery) == 10
    change = tiles(gallery, 0, 10)[2]
    assert change[0, 0] == pytest.approx([0.9] * 3)
    assert change[1, 1] == pytest.approx([0.5] * 3)
    assert magnification(make_gallery(change=0.5)) == 1


def test_both_maps_share_one_scale() -> None:
    pair = coloured(np.array([[[2.0, 0.0]], [[1.0, 0.0]]]))
    alone = coloured(np.array([[[1.0, 0.0]], [[1.0, 0.0]]]))
    assert not np.allclose(pair[0], pair[1])
    assert np.allclose(alone[0], pair[0], atol=0.02)
    signed = coloured(np.array([[[1.0, 0.0]], [[-1.0, 0.0]]]))
    assert np.allclose(signed[0, 0, 1], signed[1, 0, 1])
    assert signed[0, 0, 1].min() > 0.95


def test_colour_images_keep_their_channels() -> None:
    image = np.zeros((3, 2, 2))
    image[0] = 1.0
    assert rgb(image)[0, 0].tolist() == [1.0, 0.0, 0.0]
    assert rgb(image[:1])[0, 0].tolist() == [1.0, 1.0, 1.0]


def test_the_gallery_names_its_examples_and_budget() -> None:
    figure = gallery_figure(make_gallery(), MetricInfo("spearman", "higher", -1.0, 1.0, ""), "none")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "none · without a budget"
    assert texts[-1] == "worst: spearman ↑ = 0.250  ·  example 7, label 1, predicted 1"
    assert len(figure.axes[0].images) == 5


def test_classes_are_named_where_a_name_says_more_than_the_number() -> None:
    example = {"role": "best", "example_id": 2, "value": 1.0, "label": 3, "prediction": 5}
    named = {**example, "label_name": "cat", "prediction_name": "5"}
    assert caption(named, "spearman", None).endswith("label 3 (cat), predicted 5")
