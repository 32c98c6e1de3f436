"""`graft train`: from a folder of labelled pictures to a model folder, with an honest score."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from graft.classifier.artefact import load
from graft.classifier.manifest import MANIFEST, Manifest
from graft.classifier.model import Model
from graft.data.sources.opened import opened
from graft.disk.output import new_folder
from graft.progress import Progress, silent
from graft.run.learn import learn
from graft.run.prepare import prepare
from graft.run.publish import publish
from graft.run.resume import run_state
from graft.run.workplace import workplace_of
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from graft.run.workplace import Watch


def train(
    folder: str | Path,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Model:
    """Learn to tell the classes of a folder of pictures apart, write the model folder `out`, and open it.

    folder: class folders, ready splits of them, or a zip of either. recipe: everything else, see Recipe. force: replace
    the model at `out`. Raises GraftError or one of its kinds, with one line that says what to do.
    """
    recipe = recipe or Recipe()
    run(Path(folder), Path(out), recipe, force=force, progress=progress)
    return Model(load(Path(out)), device=recipe.device)


def run(
    folder: Path,
    out: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Manifest:
    """What `train` does, up to the finished folder; returns its manifest.

    watch: gets the history of a network that is trained or tuned, line by line. A probe imports no torch once its
    trunk is cached.
    """
    place = workplace_of(recipe, out, progress=progress, watch=watch)
    with (
        new_folder(out, source=folder, force=force, mark=MANIFEST) as partial,
        opened(
            folder, place.cache, csv=recipe.csv, follow_links=recipe.follow_links, progress=progress
        ) as collection,
        contextlib.nullcontext()
        if recipe.strategy == "probe"
        else run_state(place.state, out, resume=recipe.resume, force=force),
    ):  # fmt: skip
        dataset = prepare(folder, collection, recipe, place)
        manifest = publish(learn(dataset, recipe, place), partial, place, title=out.name)
    shutil.rmtree(place.state, ignore_errors=True)
    place.store.trim()
    return manifest
