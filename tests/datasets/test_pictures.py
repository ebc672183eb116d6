"""What is read of a folder or an archive, what is left out and told, and what is refused with its name."""

import io
import logging
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from runner.core.errors import ConfigError
from runner.datasets.image_folder import image_folder
from runner.datasets.pictures import fingerprint, list_pictures, read_pictures
from tests.datasets.conftest import pack, write_tree

SUFFIXES = "avif bmp gif j2k jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"


def told(source: Path, caplog: pytest.LogCaptureFixture) -> tuple[list[str], str]:
    """The pictures of a source, and the one line about what was left out."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        names = list(list_pictures(source))
    (line,) = caplog.messages
    return names, line


def test_what_programs_put_beside_pictures_is_left_out_and_told(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected, before = list(list_pictures(tree)), fingerprint(tree)
    for name in ("cat/._0.png", "cat/.ipynb_checkpoints/0.png", ".thumbnails/cat/0.png", "__MACOSX/cat/0.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((tree / "dog" / "1.png").read_bytes())
    assert fingerprint(tree) == before
    (tree / "notes.txt").touch()
    (tree / "dog" / "gone.png").symlink_to("nowhere.png")
    for source in (tree, pack(tree, tree.parent / "pets.tar")):
        names, line = told(source, caplog)
        assert [name.removeprefix("pets/") for name in names] == expected
        assert "4 hidden (" in line
        assert "1 no picture (" in line
        assert "1 dangling link (" in line


def test_every_suffix_that_pillow_reads(tmp_path: Path) -> None:
    suffixes = SUFFIXES.split(" ")
    (tmp_path / "a").mkdir()
    for suffix in suffixes:
        Image.new("L", (8, 8), 200).save(tmp_path / "a" / f"one.{suffix.upper()}")
    data = image_folder(root=str(tmp_path), class_count=1, test_fraction=1.0, channels=1)
    assert len(data.test) == len(suffixes)
    grey = data.test.batch(range(len(suffixes)), "cpu")[0].mean(dim=(1, 2, 3)) * 255
    assert ((grey - 200).abs() <= 2).all()


def test_loops_of_links_end_and_other_links_are_followed(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "cat" / "up").symlink_to(tree)
    (tree / "dog" / "self.png").symlink_to("self.png")
    (tree / "fox").symlink_to("eel")
    for source in (tree, pack(tree, tree.parent / "pets.tar")):
        names, line = told(source, caplog)
        assert len(names) == 16
        assert sum("fox/" in name for name in names) == 4
        assert "link" in line


def test_links_in_an_archive_are_followed_and_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:

        def add(name: str, content: bytes = b"", **facts: object) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in facts.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))

        add("cat/0.png", b"old")
        add("cat/1.png", type=tarfile.LNKTYPE, linkname="cat/0.png")
        add("./cat/2.png", type=tarfile.SYMTYPE, linkname="../store/x.bin")
        add("dog", type=tarfile.SYMTYPE, linkname="cat")
        add("cat/3.png", type=tarfile.SYMTYPE, linkname="../../outside.png")
        add("cat/4.png", type=tarfile.SYMTYPE, linkname="4.png")
        add("store/x.bin", b"linked")
        add("cat/0.png", b"new")
    places = list_pictures(tmp_path / "a.tar")
    contents = {name: file.read() for name, file in read_pictures(tmp_path / "a.tar", places)}
    assert contents == {
        f"{folder}/{number}.png": b"linked" if number == 2 else b"new"
        for folder in ("cat", "dog")
        for number in range(3)
    }


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("tar.bz2", "w:bz2")]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_cut_archive_is_refused_by_name(tmp_path: Path, suffix: str, mode: str, share: float) -> None:
    archive = pack(write_tree(tmp_path / "pets", sides=(60, 60)), tmp_path / f"pets.{suffix}", mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        ConfigError, match=rf"^dataset.root=.*pets.{suffix}: the archive cannot be read to its end[^\n]*$"
    ):
        list_pictures(archive)


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("tar.bz2", "w:bz2"), ("tgz", "w:gz")]
)
@pytest.mark.parametrize("lost", [1, 8, 12])
def test_an_archive_that_lacks_only_its_trailer_is_refused(tree: Path, suffix: str, mode: str, lost: int) -> None:
    archive = pack(tree, tree.parent / f"pets.{suffix}", mode)
    assert len(list_pictures(archive)) == 12
    archive.write_bytes(archive.read_bytes()[:-lost])
    with pytest.raises(ConfigError, match=rf"^dataset.root=.*pets.{suffix}: the archive cannot be read [^\n]*$"):
        list_pictures(archive)


def test_an_archive_cut_between_two_members_is_refused(tree: Path) -> None:
    archive = pack(tree, tree.parent / "pets.tar")
    with tarfile.open(archive) as tar:
        cut = tar.getmembers()[-2].offset
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ConfigError, match="cut or damaged"):
        list_pictures(archive)


@pytest.mark.parametrize("content", [b"P6 3", b"P6 x y 255\n", b"P6 0 0 255\n", b"", b"<html>"])
def test_a_broken_picture_is_refused_by_name_and_not_blamed_on_the_cache(tree: Path, content: bytes) -> None:
    (tree / "cat" / "bad.ppm").write_bytes(content)
    for source in (tree, pack(tree, tree.parent / "pets.tar")):
        with pytest.raises(ConfigError, match=r"^dataset.root: (pets/)?cat/bad.ppm cannot be read as an image [^\n]*$"):
            image_folder(root=str(source), class_count=3, test_per_class=1, cache=str(tree.parent / "cache"))


def test_a_picture_over_pillows_limit_is_refused_by_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ConfigError, match=r"^dataset.root: cat/0.png cannot be read .*exceeds limit of 40 pixels"):
        image_folder(root=str(tree), class_count=3, test_per_class=1)


def test_what_may_not_be_read_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By replacement, as root may read everything."""
    cache = str(tree.parent / "cache")

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", refuse)
        with pytest.raises(
            ConfigError, match=r"^dataset.root: cat/0.png cannot be read as an image .*Permission denied"
        ):
            image_folder(root=str(tree), class_count=3, test_per_class=1, cache=cache)
    listing = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: refuse(path) if Path(path).name == "dog" else listing(path))
    with pytest.raises(ConfigError, match=r"^dataset.root=.*pets: the folder dog cannot be read \(Permission denied\)"):
        image_folder(root=str(tree), class_count=3, test_per_class=1, cache=cache)
