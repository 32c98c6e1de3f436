"""`graft advise`: which strategy of transfer a folder of labelled pictures supports, and the evidence for it."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from graft.data.sources.opened import opened
from graft.disk.files import write_whole
from graft.errors import UsageError, shown
from graft.progress import Progress, silent
from graft.run.advice import advise_on
from graft.run.prepare import Pretrained, prepare
from graft.run.transfer import transfer_of
from graft.run.workplace import workplace_of
from graft.strategy.advice import Advice
from graft.training.recipe.settings import Recipe


def advise(
    folder: str | Path,
    *,
    recipe: Recipe | None = None,
    json: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Advice:
    """What the lectures' table and the probes of every stage advise for a folder of pictures; its test is not touched.

    folder: as `train` takes it. recipe: of it, what decides pictures, network and split. json: a file for all that
    was measured. out: an .html page of it. force: replace either.
    Raises GraftError or one of its kinds, with one line that says what to do.
    """
    recipe = recipe or Recipe()
    json, out = (_new_file(option, given, force=force) for option, given in (("--json", json), ("--out", out)))
    if out is not None and out.suffix.lower() != ".html":
        raise UsageError(f"--out must end in .html, got {shown(out)}; choose another name")
    found, network = _advise(Path(folder), recipe, progress)
    if json is not None:
        text = json_module.dumps({"network": network, **found.to_json()}, indent=1) + "\n"
        write_whole(json, text.encode())
    if out is not None:
        from graft.pages.advice import advice_page

        write_whole(out, advice_page(found, folder=Path(folder).name, network=network).encode())
    return found


def _advise(folder: Path, recipe: Recipe, progress: Progress) -> tuple[Advice, str]:
    """The advice, and the network's name."""
    place = workplace_of(recipe, folder, progress=progress)
    with opened(folder, place.cache, csv=recipe.csv, follow_links=recipe.follow_links, progress=progress) as collection:
        dataset = prepare(folder, collection, recipe, place)
        if not isinstance(dataset.read, Pretrained):
            raise UsageError("advice is given on a pretrained network, got the strategy scratch; leave it out")
        found = advise_on(transfer_of(dataset, dataset.read, recipe, place))
    place.store.trim()
    return found, dataset.read.weights.network


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
