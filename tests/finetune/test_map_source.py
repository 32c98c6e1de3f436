"""Maps to train on: the right view, mirrored and mixed as drawn; and training on them is training on the pictures."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from finetune.kept import MEAN, PREPROCESS, SIZE, STAGE, STD, built, pictures
from graft.data.augmentation.augment import policy
from graft.data.augmentation.mixing import mix
from graft.data.decode import decode, read_picture
from graft.data.preprocess import fit_picture
from graft.disk.table import KEY_BYTES, Store
from graft.errors import UsageError
from graft.finetune.map_source import MapSource, epoch_views
from graft.finetune.maps import Maps, keep_maps, open_lower
from graft.models.network import cut
from graft.training.loop.pictures import Pictures
from graft.training.loop.source import Batching, Source
from graft.training.recipe.normalize import Normalization

COUNT, VIEWS, SHAPE = 40, 3, (5, 2, 4)
PLAIN = Batching(None, 3, seed=1)
VARIED = Batching(None, 3, seed=1, policy=policy("resized-crop"))
FLIPPED = Batching(None, 3, seed=1, policy=policy("resized-crop,flip"))
EVERY = np.arange(COUNT)


def stored(picture: int, view: int) -> NDArray[np.float16]:
    """The maps (C, h, w) of one view: no two values alike."""
    return np.random.default_rng((picture, view)).normal(size=SHAPE).astype(np.float16)


@pytest.fixture
def source(tmp_path: Path) -> MapSource:
    channels, height, width = SHAPE
    table = Store(tmp_path).table("maps", np.dtype(("<f2", (height, width, channels))))
    keys = [
        [hashlib.sha256(bytes((picture, view))).digest()[:KEY_BYTES] for view in range(VIEWS)]
        for picture in range(COUNT)
    ]
    for view in range(VIEWS):
        table.append([row[view] for row in keys], np.stack([stored(i, view).transpose(1, 2, 0) for i in range(COUNT)]))
    places = table.locate([key for row in keys for key in row]).reshape(COUNT, VIEWS, 2)
    maps = Maps("name", SHAPE, VIEWS, tuple(row[0] for row in keys), places, table, COUNT * VIEWS, 1.0)
    return MapSource(EVERY % 3, 100 + EVERY, maps, EVERY)


def test_without_a_policy_the_plain_maps_come_channels_last(source: MapSource) -> None:
    positions = np.array([7, 0, 39, 7])
    typed: Source = source
    for epoch in (0, 1, 5):
        batch = typed.batch(positions, batching=PLAIN, epoch=epoch)
        assert batch.x.dtype == torch.float32
        assert batch.x.is_contiguous(memory_format=torch.channels_last)
        assert batch.x.numpy().tolist() == np.stack([stored(i, 0) for i in positions]).astype(np.float32).tolist()
        assert batch.target.tolist() == [1, 0, 0, 1]
    as_rows = source.batch(positions, batching=Batching(None, 3, seed=1, channels_last=False), epoch=0)
    assert as_rows.x.is_contiguous()
    assert torch.equal(as_rows.x, batch.x)


def test_every_view_comes_once_before_any_comes_again(source: MapSource) -> None:
    seen = np.stack([epoch_views(9, epoch, source.ids, VIEWS) for epoch in range(4 * VIEWS)])  # (epochs, N)
    for start in range(0, 4 * VIEWS, VIEWS):
        assert (np.sort(seen[start : start + VIEWS], axis=0) == np.arange(VIEWS)[:, None]).all()
    assert {tuple(order) for order in seen[:VIEWS].T} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    }  # fmt: skip
    assert (seen[:VIEWS] != seen[VIEWS : 2 * VIEWS]).any()
    assert (epoch_views(9, 4, source.ids[::-1], VIEWS) == seen[4, ::-1]).all()  # whatever stands beside it
    assert (epoch_views(10, 0, source.ids, VIEWS) != seen[0]).any()
    assert (epoch_views(9, 3, source.ids, 1) == 0).all()


def test_an_epoch_takes_its_views(source: MapSource) -> None:
    for epoch in range(5):
        x = source.batch(EVERY, batching=VARIED, epoch=epoch).x.numpy()
        views = epoch_views(VARIED.seed, epoch, source.ids, VIEWS)
        expected = np.stack([stored(picture, view) for picture, view in zip(EVERY, views, strict=True)])
        assert (x == expected).all()


def test_half_the_maps_are_mirrored_each_by_itself(source: MapSource) -> None:
    mirrored = []
    for epoch in range(10):
        straight = source.batch(EVERY, batching=VARIED, epoch=epoch).x
        found = source.batch(EVERY, batching=FLIPPED, epoch=epoch).x
        alone = torch.cat([source.batch(EVERY[i : i + 1], batching=FLIPPED, epoch=epoch).x for i in EVERY])
        assert torch.equal(found, alone)
        as_they_are = (found == straight).flatten(1).all(dim=1)
        turned = (found.numpy() == straight.numpy()[:, :, :, ::-1]).reshape(COUNT, -1).all(axis=1)
        assert (as_they_are.numpy() ^ turned).all()
        mirrored.append(turned)
    assert 0.42 < np.mean(mirrored) < 0.58  # ±3.2 standard errors of 400 draws
    assert 0 < np.std(np.mean(mirrored, axis=0)) < 0.35  # neither always the same pictures nor whole epochs


def test_maps_are_mixed_as_pictures_are(source: MapSource) -> None:
    batching = Batching(None, 3, seed=4, mixing=("mixup", 0.4))
    batch = source.batch(EVERY[:8], batching=batching, epoch=2)
    plain = source.batch(EVERY[:8], batching=PLAIN, epoch=2)
    shares = nn.functional.one_hot(plain.target, 3).float()
    x, target = mix(plain.x, shares, kind="mixup", alpha=0.4, seed=4, epoch=2, samples=source.ids[:8])
    assert torch.equal(batch.x, x)
    assert torch.equal(batch.target, target)
    assert not torch.equal(batch.x, plain.x)


def test_a_part_keeps_numbers_and_maps(source: MapSource) -> None:
    part = source.take(np.array([30, 2, 17]))
    assert (len(part), part.shape) == (3, SHAPE)
    assert part.ids.tolist() == [130, 102, 117]
    one = part.batch(np.array([2, 0]), batching=FLIPPED, epoch=3)
    assert torch.equal(one.x, source.batch(np.array([17, 30]), batching=FLIPPED, epoch=3).x)
    assert one.target.tolist() == [17 % 3, 30 % 3]


def test_what_tells_a_set_from_another(source: MapSource) -> None:
    sets = [
        source,
        source.take(EVERY[:-1]),
        source.take(EVERY[::-1]),
        MapSource((EVERY + 1) % 3, source.ids, source.maps, EVERY),
        MapSource(source.labels, source.ids, source.maps, EVERY[::-1]),
    ]
    assert len({each.identity() for each in sets}) == len(sets)
    assert source.take(EVERY).identity() == source.identity()


def test_arrays_that_do_not_fit_are_refused(source: MapSource) -> None:
    with pytest.raises(UsageError, match=r"one label, one number and one row .* \(40,\), \(40,\) and \(39,\)"):
        MapSource(source.labels, source.ids, source.maps, EVERY[:-1])


def test_training_on_maps_is_training_on_pictures(tmp_path: Path) -> None:
    """Three steps of plain SGD above the cut, statistics frozen: the same weights from maps as from pictures."""
    whole = built()
    samples = pictures(tmp_path / "pictures", 12)
    lower = open_lower(whole, STAGE, SIZE, tmp_path)
    maps = keep_maps(samples, lower, PREPROCESS, Store(tmp_path / "store"))
    labels, ids = np.array([sample.label for sample in samples]), np.arange(12)
    pixels = np.stack(
        [fit_picture(decode(read_picture(each.path), name="", shortest=SIZE).image, PREPROCESS) for each in samples]
    )
    cached: Source = MapSource(labels, ids, maps, ids)
    uncached: Source = Pictures(labels, ids, (SIZE, SIZE, 3), lambda wanted: pixels[wanted])
    scaling = Normalization(np.array(MEAN, np.float32), np.array(STD, np.float32))
    below, above = cut(whole.network, STAGE)

    def trained(source: Source, first: nn.Module, normalization: Normalization | None) -> torch.Tensor:
        upper = deepcopy(above)
        optimizer = torch.optim.SGD(upper.parameters(), lr=0.001)
        for epoch in range(3):
            batch = source.batch(
                ids[epoch * 4 : epoch * 4 + 4], batching=Batching(normalization, 4, seed=0), epoch=epoch
            )
            with torch.no_grad():
                x = first(batch.x)
            optimizer.zero_grad()
            nn.functional.cross_entropy(upper(x), batch.target).backward()
            optimizer.step()
        return nn.utils.parameters_to_vector(upper.parameters()).detach()

    by_maps, by_pictures = trained(cached, nn.Identity(), None), trained(uncached, below, scaling)
    moved = by_pictures - nn.utils.parameters_to_vector(above.parameters()).detach()
    assert float(moved.norm()) > 1e-3
    assert float((by_maps - by_pictures).norm()) <= 0.01 * float(moved.norm())
