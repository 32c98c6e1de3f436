"""What the frozen part of a network makes of each picture, run once for every view of it and kept on the disk.

View 0 is the picture as it will be predicted; views 1, 2 … are augmented. Training above the cut then reads maps where
it would decode, augment and run the lower layers in every epoch. A row is float16 and lies as (h, w, C), so that a
batch is channels-last as it comes from the disk.

Measured with EfficientNet-Lite0 cut at `blocks.3` (40×28×28 maps, 63 kB) on 96 photos: as float16 the maps change the
logits by 0.011 % of their standard deviation; as 8 bits with a scale for each channel of each picture by 0.34 %, for
half the bytes. One thread makes batches of 6,000 a second of them from the disk's cache, and 40 MB/s would feed 600, so
bytes are not what training waits for, and the exact one is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from graft.data.augmentation.augment import Augmentation, augment
from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import Sample
from graft.disk.table import KEY_BYTES, Store, Table
from graft.errors import BadPicture, GraftError, UsageError, shown
from graft.features.trunk import Trunk
from graft.finetune.lower import Lower, StageOutput, open_module
from graft.models.network import CLASSIFIER, Built, cut, stage_names
from graft.progress import Progress, silent
from graft.runtime.stream import batched, cores, ordered_map

ENLARGED: Final = 1.15  # side of what views are augmented from, over the network's: windows of 76 % of it stay sharp
_VIEWS_VERSION: Final = 2  # raise it when views are made in another way
VIEWS_SHARE: Final = 1 / 3  # of the time left, at most, for views
TOGETHER: Final = 8  # pictures that are augmented at once, where they are small
_TOGETHER_BYTES: Final = 16 * 2**20  # that their pixels, as float32, and maps may take, as long as each core has some
_SAVE_BYTES: Final = 64 * 1024**2  # of maps that wait in memory; what a killed run loses at the most
_FLOAT16: Final = float(np.finfo(np.float16).max)
_TIMED: Final = 16  # pictures for each core, by which a view's time is known
_TIMED_VIEWS: Final = 3  # of each, which share one decode as they will in earnest


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of n pictures, each in `views` views.

    name: hex digits that change with the layers below the cut and with what makes the views. shape: (C, h, w). keys:
    digest of each picture's bytes. places: (n, views, 2), where the rows stand in `table`. computed: rows that were not
    there before. seconds: that this took.
    """

    name: str
    shape: tuple[int, int, int]
    views: int
    keys: tuple[bytes, ...]
    places: NDArray[np.int64]
    table: Table
    computed: int
    seconds: float

    def read(self, pictures: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float16]:
        """The maps of `pictures` (n,) in `views` (n,): (n, h, w, C). Several threads may read at once."""
        return self.table.gather(self.places[pictures, views]).astype(np.float16, copy=False)

    def plain(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """The maps of `pictures` (n,) as they are predicted from, view 0: (n, C, h, w) float32."""
        stored = torch.from_numpy(self.read(pictures, np.zeros(len(pictures), np.int64)))  # (n, h, w, C)
        return stored.permute(0, 3, 1, 2).float()


def open_lower(
    built: Built, stage: str, size: int, cache: Path, *, trunk: Trunk | None = None, progress: Progress = silent
) -> Lower:
    """The part of a network below `stage`, from `cache` or exported into it.

    size: side of the pictures, pixels. trunk: of the same network, if at hand: the part is then cut out of its graph,
    which takes a moment. Raises UsageError for a stage that is not there or takes no maps, and as `open_module`.
    """
    lower, _ = cut(built.network, stage)
    below = (*stage_names(built.network), CLASSIFIER).index(stage)  # stages
    output = StageOutput(trunk.graph, below - 1) if trunk is not None and below else None
    return open_module(lower, cache, size=size, mean=built.mean, std=built.std, output=output, progress=progress)


def maps_bytes(pictures: int, shape: tuple[int, int, int], views: int) -> int:
    """Bytes that the maps of so many pictures take on the disk; shape: (C, h, w) of one picture's."""
    return pictures * views * (math.prod(shape) * 2 + KEY_BYTES)


def budgeted_views(seconds_left: float, seconds_per_view: float, epochs: int) -> int:
    """How many views of each picture are worth their time, the plain one among them; at least 1.

    As many as fit in VIEWS_SHARE of the time left, and no more than there are epochs to see them. seconds_left: until
    the end of the run, infinite without a budget. seconds_per_view: of one view of every picture.
    Raises ValueError for a time or a number of epochs that is not above 0.
    """
    if not (seconds_per_view > 0 and epochs > 0):
        raise ValueError(f"views need seconds and epochs above 0, got {seconds_per_view} and {epochs}")
    affordable = max(1.0, VIEWS_SHARE * seconds_left / seconds_per_view)
    return int(min(affordable, epochs))


def seconds_per_view(
    samples: Sequence[Sample], lower: Lower, preprocess: Preprocess, *, policy: tuple[Augmentation, ...]
) -> float:
    """Seconds that one view of all pictures takes on all cores, measured on a few of them, evenly spread."""
    step = max(1, len(samples) // (_TIMED * cores()))
    some = samples[::step]
    views = list(range(1, 1 + _TIMED_VIEWS))
    way = _Pass(lower, preprocess, _each_alone(policy), seed=0)
    with _torch_on_one_thread():
        began = time.perf_counter()
        for _ in ordered_map(way.maps, way.batches([_Missing(sample, None, views, []) for sample in some]), ahead=2):
            pass
        return (time.perf_counter() - began) / (len(some) * _TIMED_VIEWS) * len(samples)


def keep_maps(
    samples: Sequence[Sample],
    lower: Lower,
    preprocess: Preprocess,
    store: Store,
    *,
    views: int = 1,
    plain: bool = True,
    policy: tuple[Augmentation, ...] = (),
    seed: int = 0,
    beside: int = 0,
    progress: Progress = silent,
) -> Maps:
    """Run every view of every picture through `lower` that is not in the store yet.

    views: of each picture. plain: whether view 0, the plain one, is the first of them; else view 1 is. policy, seed:
    how the others differ from it; what a view looks like follows from them, its number and the picture's bytes. An
    augmentation that looks at the rest of a batch finds the picture alone. beside: bytes of other maps that must have
    room too, so that either all can be kept or none is begun. Memory does not grow with the pictures, but for some 200
    bytes a view.
    Raises UsageError for views that would all be alike or pictures of another size, BadPicture for one that cannot be
    read, and GraftError when the maps do not fit the disk or the store, or are too large for float16.
    """
    numbers = range(views) if plain else range(1, views + 1)
    if views < 1 or (numbers[-1] and not policy):
        raise UsageError(f"views must be 1, or more with an augmentation to tell them apart, got {views} views")
    if preprocess.size != lower.size:
        raise UsageError(f"the frozen layers take pictures of side {lower.size}, got side {preprocess.size}")
    began = time.perf_counter()
    channels, height, width = lower.shape
    origin = f"{lower.key}-{preprocess.geometry_digest()}"
    table = store.table(f"maps-{origin}", np.dtype(("<f2", (height, width, channels))))
    keys = tuple(ordered_map(lambda sample: _key(read_picture(sample.path)), samples))
    recipes = _view_recipes(policy, seed, numbers)
    rows = [[_row_key(key, recipe) for recipe in recipes] for key in keys]
    missing = [
        _Missing(sample, key, absent, [places[view - numbers[0]] for view in absent])
        for sample, key, places in zip(samples, keys, rows, strict=True)
        if (absent := [view for view, place in zip(numbers, places, strict=True) if place not in table])
    ]
    computed = sum(len(each.views) for each in missing)
    if computed:
        what = f"maps of {len(samples):,} pictures in {views} view{'s' if views > 1 else ''}"
        what += ", with those beside them," if beside else ""
        store.make_room(maps_bytes(1, lower.shape, computed) + beside, what=what)
        _fill(table, missing, _Pass(lower, preprocess, _each_alone(policy), seed), lower.shape, progress)
    places = table.locate(list(itertools.chain(*rows))).reshape(len(samples), views, 2)
    name = f"{origin}-{hashlib.sha256(b'|'.join(recipes)).hexdigest()[:16]}"
    return Maps(name, lower.shape, views, keys, places, table, computed, time.perf_counter() - began)


def augmented(
    enlarged: NDArray[np.uint8],
    policy: tuple[Augmentation, ...],
    *,
    size: int,
    seed: int,
    view: int,
    numbers: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """One view of each of n pictures: enlarged ones (n, S', S', 3), 0–255, through the policy → (n, size, size, 3).

    seed, view, numbers (n,): what the changes are drawn from, numbers being the pictures' own, 0 to 2³² − 1.
    """
    x = torch.from_numpy(enlarged).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    x = augment(x.mul_(1 / 255), policy, seed=seed, epoch=view, samples=numbers, size=(size, size))
    return x.mul(255).round_().permute(0, 2, 3, 1).to(torch.uint8, memory_format=torch.contiguous_format).numpy()


@dataclass(frozen=True)
class _Missing:
    """Views of a picture that the store does not have, and the keys they will have there.

    key: the picture's own, None where it is not known yet.
    """

    sample: Sample
    key: bytes | None
    views: list[int]
    rows: list[bytes]


def _fill(
    table: Table, missing: Sequence[_Missing], way: _Pass, shape: tuple[int, int, int], progress: Progress
) -> None:
    """Compute what is missing, in every core, and write it to the table, so many bytes at a time."""
    channels, height, width = shape
    room = np.empty((max(1, _SAVE_BYTES // maps_bytes(1, shape, 1)), height, width, channels), np.float16)
    waiting: list[bytes] = []
    with _torch_on_one_thread():
        made = itertools.chain.from_iterable(ordered_map(way.maps, way.batches(missing), ahead=2))
        for number, (each, maps) in enumerate(zip(missing, made, strict=True), 1):
            for row, one in zip(each.rows, maps, strict=True):
                room[len(waiting)] = one
                waiting.append(row)
                if len(waiting) == len(room):
                    table.append(waiting, room)
                    waiting = []
            progress("running the frozen layers", number, len(missing))
    if waiting:
        table.append(waiting, room[: len(waiting)])


@dataclass(frozen=True, eq=False)
class _Decoded:
    """A picture that views are made from.

    number: what randomness is drawn from. plain: (S, S, 3), its view 0, None where that is not missing. enlarged:
    (S', S', 3), what others are made from, likewise.
    """

    number: int
    plain: NDArray[np.uint8] | None
    enlarged: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class _Pass:
    """What every picture goes through, on one thread of many."""

    lower: Lower
    preprocess: Preprocess
    policy: tuple[Augmentation, ...]
    seed: int

    def batches(self, missing: Sequence[_Missing]) -> Iterator[list[_Missing]]:
        """As many pictures at a time as `maps` takes."""
        views = max(len(each.views) for each in missing)
        one = 4 * 3 * round(ENLARGED * self.preprocess.size) ** 2 + maps_bytes(1, self.lower.shape, views)
        return batched(missing, max(1, min(TOGETHER, _TOGETHER_BYTES // one, -(-len(missing) // cores()))))

    def maps(self, some: Sequence[_Missing]) -> list[list[NDArray[np.float16]]]:
        """(h, w, C) for each missing view of each picture."""
        decoded = [self._decoded(each) for each in some]
        made: list[dict[int, NDArray[np.float16]]] = [{} for _ in some]
        for view in sorted({view for each in some for view in each.views}):
            places = [place for place, each in enumerate(some) if view in each.views]
            pixels = self._pixels([decoded[place] for place in places], view)
            for place, one in zip(places, pixels, strict=True):
                made[place][view] = self._run(some[place].sample, one)
        return [[maps[view] for view in each.views] for each, maps in zip(some, made, strict=True)]

    def _decoded(self, each: _Missing) -> _Decoded:
        data = read_picture(each.sample.path)
        found = _key(data)
        if each.key not in (None, found):
            raise BadPicture(
                f"{shown(each.sample.path)} changed while it was being learnt from; leave it alone until the run has "
                "ended"
            )
        image = decode(data, name=each.sample.path, shortest=self.preprocess.size).image
        larger = replace(self.preprocess, size=min(4096, round(ENLARGED * self.preprocess.size)))
        return _Decoded(
            int.from_bytes(found[:4], "little"),
            fit_picture(image, self.preprocess) if 0 in each.views else None,
            fit_picture(image, larger) if any(each.views) else None,
        )

    def _pixels(self, decoded: Sequence[_Decoded], view: int) -> Sequence[NDArray[np.uint8]]:
        """(S, S, 3) of one view of each picture."""
        if view == 0:
            return [each.plain for each in decoded if each.plain is not None]
        enlarged = np.stack([each.enlarged for each in decoded if each.enlarged is not None])
        numbers = np.array([each.number for each in decoded])
        size = self.preprocess.size
        return list(augmented(enlarged, self.policy, size=size, seed=self.seed, view=view, numbers=numbers))

    def _run(self, sample: Sample, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        maps = self.lower.run(pixels[None])[0]  # (C, h, w)
        if not (largest := float(np.abs(maps).max())) <= _FLOAT16:
            raise GraftError(
                f"maps at this cut must stay within ±{_FLOAT16:,.0f} to be kept, got {largest:,.0f} for "
                f"{shown(sample.path)}; cut the network elsewhere"
            )
        return np.ascontiguousarray(maps.transpose(1, 2, 0), np.float16)


def _key(data: bytes) -> bytes:
    """As the features' table has it: digest of a picture's bytes."""
    return hashlib.sha256(data).digest()[:KEY_BYTES]


def _row_key(key: bytes, view_recipe: bytes) -> bytes:
    """The plain view goes by the picture's own key; the others by what makes them, too."""
    return _key(key + view_recipe) if view_recipe else key


def _view_recipes(policy: tuple[Augmentation, ...], seed: int, numbers: range) -> list[bytes]:
    """What makes each view: empty for view 0, the plain one; for others they change with policy, seed and number.

    A policy is known by its names and shares, and by what it does to one picture when it does all of it.
    """
    if not numbers[-1]:
        return [b""]
    ramp = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    always = [replace(augmentation, share=1.0) for augmentation in policy]
    effect = augment(ramp, always, seed=0, epoch=0, samples=np.array([0])).numpy().tobytes()
    recipe = repr(
        (_VIEWS_VERSION, ENLARGED, seed, [(augmentation.name, augmentation.share) for augmentation in policy])
    ).encode()
    made = (hashlib.sha256(recipe + effect + str(number).encode()).digest() for number in numbers if number)
    return [*(b"" for number in numbers if not number), *made]


def _each_alone(policy: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
    """Without what looks at the rest of a batch: views go by the picture alone. All others keep their places."""
    return tuple(each if each.across is None else Augmentation(each.name, 0, lambda x, _: x) for each in policy)


@contextlib.contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    """torch on one thread here and in threads that begin within, for every core has pictures of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
