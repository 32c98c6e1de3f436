"""From pictures to features and facts: each picture decoded once, run once, and remembered by its content."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.data.decode import decode, read_picture
from graft.data.facts import FACTS, FACTS_VERSION, facts_of
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import Problem, Sample
from graft.disk.table import KEY_BYTES, Store, Table
from graft.errors import BadPicture
from graft.features.rows import Rows
from graft.features.trunk import Run
from graft.progress import Progress, silent
from graft.runtime.stream import batched, cores, ordered_map

Known = Callable[[bytes], bool]
Pass = Callable[[NDArray[np.uint8]], NDArray[Any]]  # pixels (N, size, size, 3) → a row for each

_SAVE_EVERY: Final = 512  # pictures: what a killed run loses at the most
_SAVE_BYTES: Final = 64 * 1024**2  # of rows, after which fewer pictures are saved too
_GPU_BATCH: Final = 64
_IN_MEMORY: Final = 24 * 1024**2  # bytes of float32 features that are kept in memory rather than streamed
_PIXELS_IN_MEMORY: Final = 1024**3  # bytes of pixels, likewise
_TIMED: Final = 32  # pictures that are timed when all features were already known


@dataclass(frozen=True)
class Features:
    """What one pass over the pictures gave, for those that could be read.

    samples: the readable ones, in order. keys: digest of each file's bytes. facts: (n,) records of FACTS.
    problems: the files that were set aside. computed: how many went through the network in this pass.
    limit: seconds that one decode and one forward pass of every picture take on this machine, with all cores busy.
    shape: of the row of one picture, (Σ widths,) for the outputs of a trunk and (S, S, 3) for pixels.
    """

    samples: tuple[Sample, ...]
    keys: tuple[bytes, ...]
    facts: NDArray[np.void]
    problems: tuple[Problem, ...]
    computed: int
    limit: float
    shape: tuple[int, ...]
    table: Table

    def key_array(self) -> NDArray[np.uint8]:
        """The keys as an array (n, 16)."""
        return np.frombuffer(b"".join(self.keys), np.uint8).reshape(-1, KEY_BYTES)

    def rows(self, which: NDArray[np.int64], columns: slice | tuple[slice, ...] | None = None) -> Rows:
        """The features of the samples `which`, (k, width) float32: in memory where they are few, else from the disk.

        columns: the part of a row that is wanted, such as `trunk.columns("features")`, or several side by side, in the
        order given; all of it if left out.
        """
        places = self.table.locate([self.keys[i] for i in which])
        parts = (slice(None),) if columns is None else (columns,) if isinstance(columns, slice) else columns
        width = sum(len(range(*part.indices(self.shape[0]))) for part in parts)

        def read(part: slice | NDArray[np.int64]) -> NDArray[np.float32]:
            whole = self.table.gather(places[part])
            return np.concatenate([whole[:, one] for one in parts], axis=1, dtype=np.float32)

        if len(which) * width * 4 > _IN_MEMORY:
            return Rows(len(which), width, read)
        matrix = np.empty((len(which), width), np.float32)
        for start in range(0, len(which), _SAVE_EVERY):  # whole rows may be much wider than what is kept of them
            matrix[start : start + _SAVE_EVERY] = read(slice(start, start + _SAVE_EVERY))
        return Rows(len(which), width, lambda part: matrix[part])

    def pixels(self, which: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
        """A reader of the pixels of the samples `which`: positions in it (n,) → (n, S, S, 3) uint8."""
        places = self.table.locate([self.keys[i] for i in which])

        def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
            return self.table.gather(places[positions]).astype(np.uint8, copy=False)

        if len(which) * int(np.prod(self.shape)) > _PIXELS_IN_MEMORY:
            return read
        pixels = read(np.arange(len(which)))
        return lambda positions: pixels[positions]


@dataclass(frozen=True)
class _Seen:
    """One picture after its turn. features and facts are None where the store had them; seconds of one core."""

    sample: Sample
    key: bytes = b""
    problem: Problem | None = None
    facts: NDArray[np.void] | None = None
    pixels: NDArray[np.uint8] | None = None
    features: NDArray[Any] | None = None
    decode: float = 0.0
    forward: float = 0.0


def extract(
    samples: Sequence[Sample],
    run: Run,
    preprocess: Preprocess,
    store: Store,
    *,
    trunk_key: str,
    width: int,
    on_gpu: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> Features:
    """Run every picture through the trunk that is not in the store yet.

    run: pixels (N, size, size, 3) uint8 → (N, width), for a trunk its `row_width`. trunk_key: stands for the trunk's
    weights in the store's keys.
    strict: stop at the first picture that cannot be read. Memory does not grow with the pictures, but for about 400
    bytes each. Raises BadPicture where strict, GraftError when the store cannot be written.
    """
    return _passed_once(
        samples, run, preprocess, store, table=f"features-{trunk_key}", row=np.dtype(("<f2", (width,))),
        what="reading pictures and extracting features", on_gpu=on_gpu, strict=strict, progress=progress,
    )  # fmt: skip


def remember(
    store: Store,
    preprocess: Preprocess,
    *,
    trunk_key: str,
    width: int,
    parts: Iterable[tuple[Sequence[bytes], NDArray[Any], NDArray[np.void]]],
) -> None:
    """Keep rows that were made in another way than by `extract`, which then finds them and runs only the others.

    parts: keys, rows (n, width) and facts of some pictures at a time, as `Features` has them. Raises GraftError when
    the store cannot be written.
    """
    known, seen = _tables(store, f"features-{trunk_key}", np.dtype(("<f2", (width,))), preprocess)
    for keys, rows, facts in parts:
        first = {key: place for place, key in reversed(list(enumerate(keys)))}  # of pictures that stand there twice
        new = sorted(place for key, place in first.items() if key not in known)
        if new:
            known.append([keys[place] for place in new], rows[new].astype(np.float16))
            seen.append([keys[place] for place in new], facts[new])


def decode_once(
    samples: Sequence[Sample],
    preprocess: Preprocess,
    store: Store,
    *,
    strict: bool = False,
    progress: Progress = silent,
) -> Features:
    """Decode every picture that is not in the store yet; its row is its pixels, (size, size, 3) uint8.

    Else as `extract`; `limit` is then the seconds of one decode of every picture.
    """
    return _passed_once(
        samples, lambda pixels: pixels, preprocess, store, table="pixels",
        row=np.dtype(("u1", (preprocess.size, preprocess.size, 3))), what="decoding pictures", on_gpu=False,
        strict=strict, progress=progress,
    )  # fmt: skip


def _passed_once(
    samples: Sequence[Sample],
    run: Pass,
    preprocess: Preprocess,
    store: Store,
    *,
    table: str,
    row: np.dtype[Any],
    what: str,
    on_gpu: bool,
    strict: bool,
    progress: Progress,
) -> Features:
    """`run` over every picture whose row is not in the table yet."""
    features, facts = _tables(store, table, row, preprocess)
    save_every = max(1, min(_SAVE_EVERY, _SAVE_BYTES // row.itemsize))
    kept: list[Sample] = []
    keys: list[bytes] = []
    problems: list[Problem] = []
    fresh: list[_Seen] = []
    decode_seconds = forward_seconds = 0.0
    computed = 0

    def known(key: bytes) -> bool:
        return key in features and key in facts

    def save() -> None:
        if fresh:
            new_keys = [seen.key for seen in fresh]
            features.append(
                new_keys, np.stack([seen.features for seen in fresh if seen.features is not None]).astype(row.base)
            )
            facts.append(new_keys, np.stack([seen.facts for seen in fresh if seen.facts is not None]))
            fresh.clear()

    for number, seen in enumerate(_passed(samples, run, preprocess, known, on_gpu=on_gpu), 1):
        if seen.problem is not None:
            if strict:
                raise BadPicture(seen.problem.reason)
            problems.append(seen.problem)
        else:
            kept.append(seen.sample)
            keys.append(seen.key)
        if seen.features is not None:
            fresh.append(seen)
            computed += 1
            decode_seconds += seen.decode
            forward_seconds += seen.forward
            if len(fresh) >= save_every:
                save()
        progress(what, number, len(samples))
    save()
    if computed < min(_TIMED, len(kept)):
        timed = list(_passed(_spread(kept, _TIMED), run, preprocess, lambda _: False, on_gpu=on_gpu))
        decode_seconds, forward_seconds = sum(s.decode for s in timed), sum(s.forward for s in timed)
        measured = len(timed)
    else:
        measured = computed
    lanes = cores()
    limit = (decode_seconds / lanes + forward_seconds / (1 if on_gpu else lanes)) * len(kept) / max(measured, 1)
    records = facts.gather(facts.locate(keys)) if keys else np.empty(0, FACTS)
    return Features(
        tuple(kept),
        tuple(keys),
        records.astype(FACTS, copy=False),
        tuple(problems),
        computed,
        limit,
        row.shape,
        features,
    )


def _tables(store: Store, table: str, row: np.dtype[Any], preprocess: Preprocess) -> tuple[Table, Table]:
    """Where rows and facts of pictures are kept, by the content of the pictures."""
    features = store.table(f"{table}-{preprocess.geometry_digest()}", row)
    return features, store.table(f"facts-{FACTS_VERSION}-{preprocess.size}", FACTS)


def _passed(
    samples: Sequence[Sample],
    run: Pass,
    preprocess: Preprocess,
    known: Known,
    *,
    on_gpu: bool,
) -> Iterator[_Seen]:
    """Each sample decoded and run, in order: on a CPU both in the same thread, on a GPU in batches after the decode."""

    def load(sample: Sample) -> _Seen:
        started = time.thread_time()
        try:
            data = read_picture(sample.path)
            key = hashlib.sha256(data).digest()[:KEY_BYTES]
            if known(key):
                return _Seen(sample, key)
            picture = decode(data, name=sample.path, shortest=preprocess.size)
        except BadPicture as error:
            return _Seen(sample, problem=Problem(sample.path, str(error)))
        pixels = fit_picture(picture.image, preprocess)
        return _Seen(sample, key, None, facts_of(picture), pixels, decode=time.thread_time() - started)

    def load_and_run(sample: Sample) -> _Seen:
        seen = load(sample)
        if seen.pixels is None:
            return seen
        started = time.thread_time()
        features = run(seen.pixels[None])[0]
        return _Seen(sample, seen.key, None, seen.facts, None, features, seen.decode, time.thread_time() - started)

    if not on_gpu:
        yield from ordered_map(load_and_run, samples)
        return
    for batch in batched(ordered_map(load, samples, ahead=_GPU_BATCH), _GPU_BATCH):
        waiting = [seen for seen in batch if seen.pixels is not None]
        started = time.perf_counter()
        outputs = iter(run(np.stack([s.pixels for s in waiting if s.pixels is not None])) if waiting else ())
        each = (time.perf_counter() - started) / max(len(waiting), 1)
        for seen in batch:
            if seen.pixels is None:
                yield seen
            else:
                yield _Seen(seen.sample, seen.key, None, seen.facts, None, next(outputs), seen.decode, each)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` samples, evenly spread over all."""
    step = max(1, len(samples) // count)
    return list(samples[::step][:count])
