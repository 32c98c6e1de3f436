"""All of the playground's pictures, from little training: the same bytes each time."""

from __future__ import annotations

import io

import matplotlib as mpl
import pytest
import torch
from PIL import Image

from graft.lessons.playground import gallery
from graft.lessons.playground.gallery import Picture
from graft.lessons.playground.points import Points

Pictures = tuple[Picture, ...]


@pytest.fixture(scope="module")
def twice(all_digits: Points) -> tuple[Pictures, Pictures]:
    def at_hand(count: int, **_seed: int) -> Points:
        return Points(all_digits.x[:count], all_digits.y[:count])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "small_digits", at_hand)
        return gallery.pictures(steps=5, budget=510), gallery.pictures(steps=5, budget=510)


def test_every_byte_is_the_same_but_for_the_clock(twice: tuple[Pictures, Pictures]) -> None:
    for first, again in zip(*twice, strict=True):
        if first.file != gallery.MEASURED:
            assert first == again


def test_pictures_are_small_whole_and_named(twice: tuple[Pictures, Pictures]) -> None:
    assert (*(one.file for one in twice[0]), gallery.INDEX) == gallery.names()
    for one in twice[0]:
        assert len(one.png) < 80_000
        with Image.open(io.BytesIO(one.png)) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert 600 < picture.width < 1300
        assert one.sentence.endswith(".")


def test_settings_of_matplotlib_and_torch_are_left_as_they_were() -> None:
    before = dict(mpl.rcParams), torch.get_num_threads()
    progress: list[tuple[str, int, int]] = []

    def stop(*said: str | int) -> None:
        progress.append(said)  # type: ignore[arg-type]
        assert mpl.rcParams["savefig.dpi"] == 110
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.pictures(stop)
    assert progress == [("drawing", 0, 7)]
    assert (dict(mpl.rcParams), torch.get_num_threads()) == before
