"""The sets that come with packages: exact sizes, values and splits."""

import torch
from sklearn.datasets import load_digits

from runner.datasets.embedded import digits, mnist5k


def test_mnist5k_has_400_and_100_of_each_digit() -> None:
    data = mnist5k()
    assert torch.bincount(data.train.labels).tolist() == [400] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
    assert data.train.shape == (1, 28, 28)
    images = data.test.batch(range(1000), "cpu")[0]
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert data.test.ids.sort().values.tolist() == list(range(1000))
    assert torch.bincount(data.test.labels[:100]).tolist() == [10] * 10


def test_mnist5k_train_and_test_share_no_image() -> None:
    data = mnist5k()
    train, test = ({image.tobytes() for image in split.images.numpy()} for split in (data.train, data.test))
    assert not train & test


def test_digits_are_scaled_exactly_and_all_there() -> None:
    data = digits()
    assert (len(data.train), len(data.test)) == (1438, 359)
    pixels, _ = load_digits(return_X_y=True)
    expected = torch.from_numpy(pixels).mul(255 / 16).round().sum()
    total = sum(split.images.double().sum() for split in (data.train, data.test))
    assert total == expected
    assert data.test.images.max() == 255


def test_subsets_are_prefixes_and_the_seed_moves_the_split() -> None:
    small, large = digits(test_size=50), digits(test_size=200)
    assert torch.equal(small.test.ids, large.test.ids[:50])
    assert torch.equal(small.test.labels, large.test.labels[:50])
    assert not torch.equal(digits(seed=1).train.images, digits().train.images)
