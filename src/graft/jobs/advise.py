"""`graft advise`: which strategy of transfer a folder of labelled pictures supports, and the evidence for it."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Fit
from graft.data.split import assign_folds
from graft.errors import GraftError, UsageError, shown
from graft.jobs.cache import cache_folder
from graft.jobs.learnt import Gathered, class_weights, gather, too_small
from graft.jobs.settings import TrainSettings
from graft.jobs.source import opened
from graft.models.weights import find_source
from graft.progress import Progress, silent
from graft.runtime.device import choose_device
from graft.store.table import Store
from graft.transfer import advice
from graft.transfer.advice import Advice
from graft.transfer.features import extract
from graft.transfer.likeness import Likeness, likeness, pretrained_head, sample
from graft.transfer.stage_probes import probe_stages
from graft.transfer.trunk import FEATURES, Trunk, open_trunk, runner

FOLDS = 5


def advise(
    folder: str | Path,
    *,
    settings: TrainSettings | None = None,
    json: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Advice:
    """What the lectures' table and the probes of every stage advise for a folder of pictures; its test is not touched.

    folder: as `train` takes it. settings: of it, what decides pictures, network and split. json: a file for all that
    was measured. out: an .html page of it. force: replace either.
    Raises GraftError or one of its kinds, with one line that says what to do.
    """
    settings = settings or TrainSettings()
    json, out = (_new_file(option, given, force=force) for option, given in (("--json", json), ("--out", out)))
    if out is not None and out.suffix.lower() != ".html":
        raise UsageError(f"--out must end in .html, got {shown(out)}; choose another name")
    found, network = _advise(Path(folder), settings, progress)
    if json is not None:
        text = json_module.dumps({"network": network, **found.to_json()}, indent=1) + "\n"
        _write(json, text.encode())
    if out is not None:
        from graft.jobs.advise_page import advice_page

        _write(out, advice_page(found, folder=Path(folder).name, network=network).encode())
    return found


def _advise(folder: Path, settings: TrainSettings, progress: Progress) -> tuple[Advice, str]:
    """The advice, and the network's name."""
    device = choose_device(settings.device)
    source = find_source(settings.network, settings.weights)
    cache = cache_folder(settings.cache)
    with opened(folder, cache, csv=settings.csv, follow_links=settings.follow_links, progress=progress) as collection:
        trunk = open_trunk(source, cache, progress=progress)
        store = Store(cache / "features")
        features = extract(
            collection.samples, runner(trunk, source, device), trunk.preprocess(cast(Fit, settings.fit)), store,
            trunk_key=trunk.key, width=trunk.row_width, on_gpu=device != "cpu",
            strict=settings.on_bad_image == "strict", progress=progress,
        )  # fmt: skip
        gathered = gather(collection, features, source=folder, test_fraction=settings.test_fraction, seed=settings.seed)
        chosen = gathered.indices("train")
        fold = assign_folds(
            gathered.labels[chosen], gathered.groups[chosen], features.key_array()[chosen], folds=FOLDS,
            seed=settings.seed,
        )  # fmt: skip
        if fold.max(initial=-1) < 1:
            raise too_small(folder, gathered)
        found = advise_on(gathered, trunk, fold, settings, progress=progress)
    store.trim()
    return found, source.network


def advise_on(
    gathered: Gathered,
    trunk: Trunk,
    fold: NDArray[np.int64],
    settings: TrainSettings,
    *,
    progress: Progress = silent,
) -> Advice:
    """The advice for pictures that went through the trunk; only the training part is looked at.

    fold: (n,) for the training pictures, which part of the cross-validation holds each out.
    """
    chosen, classes = gathered.indices("train"), len(gathered.collection.classes)
    labels, groups = gathered.labels[chosen], gathered.groups[chosen]
    scores = probe_stages(
        gathered.features, trunk, chosen, labels, groups, fold, num_classes=classes,
        class_weights=class_weights(labels, classes, settings.class_weights), progress=progress,
    )  # fmt: skip
    counts = np.bincount(labels, minlength=classes).tolist()
    return advice.advise(counts, likeness_of(gathered, trunk, seed=settings.seed), scores, trunk.stages)


def likeness_of(gathered: Gathered, trunk: Trunk, *, seed: int) -> Likeness:
    """How like the source's pictures the training pictures are, from at most 512 of them."""
    chosen = gathered.indices("train")
    some = chosen[sample(gathered.labels[chosen])]
    features = gathered.features.rows(some, trunk.columns(FEATURES)).read(slice(None))
    return likeness(features, *pretrained_head(trunk), gathered.labels[some], gathered.groups[some], seed=seed)


def _new_file(option: str, given: str | Path | None, *, force: bool) -> Path | None:
    """The file to write, if one is asked for. Raises UsageError where it is a folder, or exists."""
    if given is None:
        return None
    file = Path(given)
    if file.is_dir():
        raise UsageError(f"{option} needs a file, {shown(file)} is a folder; give a name in it")
    if file.exists() and not force:
        raise UsageError(f"{shown(file)} exists already; choose another {option}, or --force to replace it")
    return file


def _write(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise GraftError(f"cannot write {shown(file)}: {error.strerror or error}; choose another file") from error
