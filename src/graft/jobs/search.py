"""`graft search`: the pictures of a folder that are nearest to one, as the model sees them and pixel by pixel."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.classifier.artefact import Classifier, load
from graft.data.decode import decode, read_picture
from graft.data.duplicates import near_groups
from graft.data.preprocess import fit_picture
from graft.data.sources.arrays import is_arrays
from graft.data.sources.opened import opened
from graft.data.sources.scan import Collection, Sample, picture_paths
from graft.data.sources.walk import listing
from graft.disk.cache import cache_folder
from graft.disk.table import KEY_BYTES, Store
from graft.errors import BadFolder, BadModel, UsageError, nearest, shown
from graft.features.extract import Features, extract
from graft.features.index import EXACT_UP_TO, nearest_by_index
from graft.features.nearest import METRICS, Ints, Metric, all_nearest, chance, precision_at
from graft.features.nearest import nearest as nearest_exactly
from graft.features.rows import Rows
from graft.features.search import Found, Match, Quality, Ranking, Space
from graft.features.trunk import Run
from graft.progress import Progress, silent
from graft.runtime.graph import below_head
from graft.runtime.onnx import OnnxRunner

SIDE: Final = 32
"""Pixels that a side has in pixel space: larger pictures do not find better (docs/search.md)."""

_KS: Final = (1, 5, 10)
_MOST: Final = 1000  # neighbours that may be asked for
_WORK: Final = 2**41  # multiplications that precision may take: a minute on two cores; beyond, fewer are queries
_FEWEST_QUERIES: Final = 500  # that precision is asked of, however much work that is
_LARGEST: Final = 65504  # what the store's float16 holds
_UNLABELLED: Final = -1


def search(
    model: str | Path,
    image: str | Path,
    folder: str | Path,
    *,
    k: int = 10,
    metric: str = "cosine",
    out: str | Path | None = None,
    force: bool = False,
    cache: Path | None = None,
    exact_up_to: int = EXACT_UP_TO,
    progress: Progress = silent,
) -> Found:
    """The pictures of `folder` nearest to `image` in the model's feature space, beside the nearest in pixel space.

    folder: class folders, a zip, arrays, or pictures without classes. k: 1 to 1,000. metric: of the feature space,
    cosine or l2. out: an HTML page to write. exact_up_to: pictures that are compared one by one; beyond, by an index.
    Raises UsageError, BadModel, BadFolder or BadPicture, in one line that says what to do.
    """
    chosen = _metric(metric)
    if not 1 <= k <= _MOST:
        raise UsageError(f"-k must lie between 1 and {_MOST:,}, got {k}")
    page = None if out is None else _page_file(Path(out), force=force)
    classifier = load(Path(model))
    network, key = _network(classifier)
    query, digest = _read(Path(image), classifier, network)
    width = len(query) - 3 * SIDE**2
    spaces = (
        Space("feature", slice(0, width), chosen),
        Space("pixel", slice(width, len(query)), "l2"),
    )
    place = cache_folder(cache)
    store = Store(place / "features")
    with _collection(Path(folder), place, progress) as collection:
        features = extract(
            collection.samples, network, classifier.preprocess, store, trunk_key=key, width=len(query),
            progress=progress,
        )  # fmt: skip
        if not features.samples:
            raise BadFolder(f"no picture of {shown(folder)} could be read; the first: {features.problems[0].reason}")
        copies = np.flatnonzero([one == digest for one in features.keys])
        rankings = []
        for space in spaces:
            rows = _rows(features, space)
            if rows.count <= exact_up_to:
                near = nearest_exactly(rows, query[space.columns], k, metric=space.metric, left_out=copies)
            else:
                file = place / "indexes" / f"{_index_key(features, key, classifier, space)}.usearch"
                near = nearest_by_index(
                    rows, query[space.columns], k, metric=space.metric, file=file, left_out=copies, progress=progress
                )
            pairs = zip(near.positions, near.distances, strict=True)
            rankings.append(Ranking(space, tuple(_match(features, collection, int(i), float(d)) for i, d in pairs)))
        labels = {_label(features.samples[i], collection) for i in copies}
        found = Found(
            str(image), str(folder), collection.root, len(features.samples),
            tuple(features.samples[i].path for i in copies), labels.pop() if len(labels) == 1 else None,
            tuple(rankings), _quality(features, spaces, progress) if collection.classes else None,
            (*collection.problems, *features.problems),
        )  # fmt: skip
        if page is not None:
            from graft.pages.search import write_page

            write_page(page, found)
    store.trim()
    return found


def _metric(name: str) -> Metric:
    for metric in METRICS:
        if metric == name:
            return metric
    raise UsageError(f"--metric must be {' or '.join(METRICS)}, got {shown(name)!r}{nearest(name, METRICS)}")


def _page_file(out: Path, *, force: bool) -> Path:
    if out.suffix.lower() != ".html":
        raise UsageError(f"--out must end in .html, got {shown(out)}; choose another name")
    if out.exists() and not force:
        raise UsageError(f"{shown(out)} exists already; choose another --out, or --force to replace it")
    return out


def _network(classifier: Classifier) -> tuple[Run, str]:
    """What gives a picture's row, its features and then its pixels, and what stands for it in the store's keys."""
    graph = below_head(classifier.graph, name=str(classifier.folder))
    features = OnnxRunner(graph)

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = features(pixels)  # (N, D)
        if not np.abs(given).max() <= _LARGEST:
            raise BadModel(
                f"{shown(classifier.folder)} gives features beyond ±{_LARGEST:,}, which cannot be compared; train again"
            )
        return np.concatenate([given, _small(pixels)], axis=1)

    return run, f"{hashlib.sha256(graph).hexdigest()[:32]}-pixels{SIDE}"


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, S, S, 3) → (N, SIDE · SIDE · 3), each a mean of its area, 0–255 and whole: float16 holds it."""
    small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX) for one in pixels]
    return np.stack([np.asarray(one, np.float32).ravel() for one in small])


def _read(image: Path, classifier: Classifier, network: Run) -> tuple[NDArray[np.float32], bytes]:
    """The query's row, rounded as the store rounds, and the digest of its bytes."""
    data = read_picture(image)
    picture = decode(data, name=str(image), shortest=classifier.preprocess.size)
    row = network(fit_picture(picture.image, classifier.preprocess)[None])[0]
    return row.astype(np.float16).astype(np.float32), hashlib.sha256(data).digest()[:KEY_BYTES]


@contextlib.contextmanager
def _collection(folder: Path, cache: Path, progress: Progress) -> Iterator[Collection]:
    """Pictures with classes where there are two class folders or more (or a file of them), else all without."""
    if is_arrays(folder) or not folder.is_dir() or _class_folders(folder) > 1:
        with opened(folder, cache, progress=progress) as collection:
            yield collection
        return
    samples = tuple(Sample(os.path.abspath(path), _UNLABELLED) for path in sorted(picture_paths([str(folder)])))
    yield Collection(os.path.abspath(folder), (), samples, ())


def _class_folders(folder: Path) -> int:
    try:
        return len(listing(str(folder), home=None).folders)
    except OSError as error:
        raise BadFolder(
            f"{shown(folder)}: expected a folder to read, found {error.strerror}; check permissions"
        ) from error


def _rows(features: Features, space: Space) -> Rows:
    return features.rows(np.arange(len(features.samples)), space.columns)


def _match(features: Features, collection: Collection, position: int, distance: float) -> Match:
    sample = features.samples[position]
    return Match(sample.path, _label(sample, collection), distance)


def _label(sample: Sample, collection: Collection) -> str | None:
    return None if sample.label == _UNLABELLED else collection.classes[sample.label]


def _index_key(features: Features, network: str, classifier: Classifier, space: Space) -> str:
    """32 hex digits that change with whatever changes the rows, their order or the metric."""
    parts = f"{network} {classifier.preprocess.geometry_digest()} {space.columns} {space.metric} "
    return hashlib.sha256(parts.encode() + b"".join(features.keys)).hexdigest()[:32]


def _quality(features: Features, spaces: tuple[Space, ...], progress: Progress) -> Quality | None:
    """Precision at k in each space, and in feature space by the other metric too; None where pictures are too few."""
    labels = np.array([sample.label for sample in features.samples], np.int64)
    groups = near_groups(features.facts)
    room = len(labels) - int(np.bincount(groups).max())
    ks = [k for k in _KS if k <= room]
    if not ks:
        return None
    queries = _queries(len(labels), features.shape[0])
    feature, pixel = spaces
    measured = []
    for space in (*(Space(feature.name, feature.columns, metric) for metric in METRICS), pixel):
        rows = _rows(features, space)
        found = all_nearest(rows, queries, groups, max(ks), metric=space.metric, progress=progress)
        measured.append((space, tuple(precision_at(found, queries, labels, groups, k) for k in ks)))
    return Quality(len(queries), chance(queries, labels, groups), tuple(measured))


def _queries(pictures: int, width: int) -> Ints:
    """Which pictures are queries: all where _WORK allows, else as many as it does, evenly spread."""
    allowed = max(_FEWEST_QUERIES, _WORK // (pictures * width))
    return np.unique(np.linspace(0, pictures - 1, min(pictures, allowed)).round().astype(np.int64))
