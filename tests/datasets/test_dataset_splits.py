"""Splits in memory and the dataset they make."""

import pytest
import torch

from runner.core.errors import ConfigError
from runner.datasets.base import Dataset, Split, assemble

IMAGES = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2) * 11
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def make(train_size: int | None = None, test_size: int | None = None) -> Dataset:
    return assemble((Split.full(IMAGES, LABELS), Split.full(IMAGES, LABELS)), ("a", "b"), (train_size, test_size), 0)


def test_batch_gives_floats_in_the_unit_interval_with_labels_and_ids() -> None:
    split = Split.full(IMAGES, LABELS).take(4, seed=0)
    images, labels, ids = split.batch([3, 0], "cpu")
    assert images.dtype == torch.float32
    assert torch.equal(images, IMAGES[ids].float() / 255)
    assert torch.equal(labels, LABELS[ids])
    assert torch.equal(ids, split.ids[[3, 0]])
    assert split.shape == (1, 2, 2)


def test_byte_255_is_exactly_one() -> None:
    split = Split.full(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([0]))
    assert split.batch(torch.tensor([0]), "cpu")[0].item() == 1.0


def test_batches_are_the_batches_of_the_plan() -> None:
    split = Split.full(IMAGES, LABELS)
    plan = torch.arange(6).split(4)
    for (images, labels, ids), indices in zip(split.batches(plan, "cpu"), plan, strict=True):
        assert torch.equal(ids, indices)
        assert torch.equal(labels, LABELS[indices])
        assert torch.equal(images, split.batch(indices, "cpu")[0])


def test_assemble_takes_balanced_subsets() -> None:
    data = make(4, 2)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.train.labels.sort().values.tolist() == [0, 0, 1, 1]
    assert data.test.labels.sort().values.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("sizes", "key"), [((7, None), "dataset.train_size=7: .* 1 to 6"), ((None, 0), "dataset.test_size=0")]
)
def test_sizes_out_of_range_are_refused(sizes: tuple[int | None, int | None], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make(*sizes)


def test_check_compares_the_config_with_the_images() -> None:
    data = make()
    data.check([1, 2, 2], 2)
    with pytest.raises(ConfigError, match=r"dataset.shape=\[3, 2, 2\]: must be \[1, 2, 2\]"):
        data.check([3, 2, 2], 2)
    with pytest.raises(ConfigError, match=r"dataset.classes=3: must be 2"):
        data.check([1, 2, 2], 3)


def test_an_evaluation_only_set_cannot_be_trained_on() -> None:
    data = assemble((Split.full(IMAGES[:0], LABELS[:0]), Split.full(IMAGES, LABELS)), ("a", "b"), (None, None), 0)
    with pytest.raises(ConfigError, match=r"training.epochs=0"):
        data.training_split()
    assert len(make().training_split()) == 6
