"""The gallery: tiles, colours, captions."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from runner.report.data import Gallery, MetricInfo
from runner.report.figures.gallery import (
    CAPTION,
    GAP,
    HEAD,
    TILE,
    all_words,
    caption,
    coloured,
    gallery_png,
    magnification,
    rgb,
    tiles,
)
from runner.report.figures.page_galleries import strip


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
    words = all_words(make_gallery(), MetricInfo("spearman", "higher", -1.0, 1.0, ""), "none")
    assert words[0].text == "none · without a budget"
    assert [item.text for item in words[1:6]] == [
        *("image", "perturbed", "perturbation × 10", "map, clean", "map, perturbed")
    ]
    assert words[-1].text == "worst: spearman ↑ = 0.250  ·  example 7, label 1, predicted 1"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_shows_the_tiles_in_their_places_and_the_words_around_them(channels: int) -> None:
    gallery = make_gallery(channels=channels)
    data = gallery_png(gallery, None, "none")
    assert data == gallery_png(gallery, None, "none")
    picture = np.asarray(Image.open(io.BytesIO(data)))
    top = TILE * (HEAD + CAPTION)
    for column, tile in enumerate(tiles(gallery, 0, 10)):
        left = TILE * (GAP + column * (1 + GAP))
        for row, place in itertools.product(range(2), range(2)):
            shown = picture[round(top + TILE * (row + 0.5) / 2), round(left + TILE * (place + 0.5) / 2)]
            assert shown.tolist() == np.rint(255 * tile[row, place]).tolist()
        assert (picture[round(TILE * 0.3) : round(TILE * HEAD), round(left) : round(left) + TILE] < 200).any(), (
            "its name"
        )
    assert (picture[: round(TILE * 0.3)] < 100).any(), "the title"
    assert (picture[-3:] == 255).all(), "a margin"
    assert (picture[:, -3:] == 255).all(), "a margin"


def test_classes_are_named_where_a_name_says_more_than_the_number() -> None:
    example = {"role": "best", "example_id": 2, "value": 1.0, "label": 3, "prediction": 5}
    named = {**example, "label_name": "cat", "prediction_name": "5"}
    assert caption(named, "spearman", None).endswith("label 3 (cat), predicted 5")


def test_the_page_has_the_tiles_pixel_by_pixel() -> None:
    gallery = make_gallery()
    found = strip(gallery, 0)
    assert found.shape == (2, 5 * 2 + 4, 3)
    for place, tile in enumerate(tiles(gallery, 0, magnification(gallery))):
        assert found[:, 3 * place : 3 * place + 2].tolist() == np.rint(255 * tile).tolist()
    assert (found[:, 2::3] == 255).all(), "gaps"
