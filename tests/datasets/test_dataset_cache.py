"""The cache of decoded images: what is believed, and what is made again."""

import logging
from pathlib import Path

import pytest
import torch

from runner.core.errors import ConfigError
from runner.datasets import image_folder as module
from runner.datasets.cache import Decoded, cached
from runner.datasets.image_folder import image_folder


class Maker:
    """Counts how often the content is made."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Decoded:
        self.calls += 1
        images = torch.arange(3000, dtype=torch.int32).to(torch.uint8).reshape(10, 3, 10, 10)
        return Decoded(images, torch.arange(10), torch.zeros(10, dtype=torch.int64), ("a", "b"))


def same(one: Decoded, other: Decoded) -> bool:
    tensors = zip((one.images, one.labels, one.parts), (other.images, other.labels, other.parts), strict=True)
    return one.classes == other.classes and all(torch.equal(left, right) for left, right in tensors)


@pytest.fixture
def maker() -> Maker:
    return Maker()


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def test_made_once_and_read_back_equal(tmp_path: Path, maker: Maker) -> None:
    first = cached(str(tmp_path), "set", {"state": 1}, maker)
    second = cached(str(tmp_path), "set", {"state": 1}, maker)
    assert maker.calls == 1
    assert same(first, second)


def test_another_key_is_another_file(tmp_path: Path, maker: Maker) -> None:
    cached(str(tmp_path), "set", {"state": 1}, maker)
    cached(str(tmp_path), "set", {"state": 2}, maker)
    assert maker.calls == 2


def test_no_folder_keeps_nothing(maker: Maker) -> None:
    cached(None, "set", {}, maker)
    cached(None, "set", {}, maker)
    assert maker.calls == 2


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "foreign"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, maker: Maker, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = cached(str(tmp_path), "set", {"state": 1}, maker)
    path = the_file(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "torn":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-5] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        cached(str(tmp_path / "other"), "set", {"state": 2}, maker)
        content = bytearray(the_file(tmp_path / "other").read_bytes())
    path.write_bytes(content)
    calls = maker.calls
    with caplog.at_level(logging.WARNING):
        again = cached(str(tmp_path), "set", {"state": 1}, maker)
    assert maker.calls == calls + 1
    assert same(again, expected)
    assert path.name in caplog.text
    cached(str(tmp_path), "set", {"state": 1}, maker)
    assert maker.calls == calls + 1


def test_a_failed_decode_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> Decoded:
        raise ConfigError("dataset.root: broken")

    with pytest.raises(ConfigError, match="broken"):
        cached(str(tmp_path), "set", {}, fail)
    assert not list(tmp_path.glob("*.safetensors"))


def test_an_unusable_folder_is_named(tmp_path: Path, maker: Maker) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"dataset.cache=.*file/cache: cannot be used"):
        cached(str(tmp_path / "file" / "cache"), "set", {}, maker)


def test_a_changed_source_or_view_is_decoded_again(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decodes = []
    stack = module._stack
    monkeypatch.setattr(module, "_stack", lambda *args: decodes.append(1) or stack(*args))

    def load(size: int) -> bytes:
        data = image_folder(root=str(tree), class_count=3, test_per_class=1, size=size, cache=str(tmp_path / "cache"))
        return data.train.batch(range(9), "cpu")[0].numpy().tobytes()

    before = load(4)
    assert load(4) == before
    assert len(decodes) == 1
    load(5)
    assert len(decodes) == 2
    for name in ("0", "1", "2", "3"):
        (tree / "cat" / f"{name}.png").write_bytes((tree / "dog" / f"{name}.png").read_bytes())
    assert load(4) != before
    assert len(decodes) == 3


@pytest.mark.parametrize("label", ["../../elsewhere", "/elsewhere", "a/b", ".."])
def test_the_label_makes_no_path(tmp_path: Path, label: str) -> None:
    cached(str(tmp_path / "cache"), label, {"a": 1}, Maker())
    assert [path.parent for path in tmp_path.rglob("*.safetensors")] == [tmp_path / "cache"]
