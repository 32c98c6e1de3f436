"""`graft advise`: which strategy of transfer a folder of labelled pictures supports, and the evidence for it."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from graft.data.sources.opened import opened
from graft.disk.cache import cache_folder
from graft.disk.files import write_whole
from graft.errors import UsageError, shown
from graft.progress import Progress, silent
from graft.run.advice import advise_on
from graft.run.clock import Clock
from graft.run.ground import ground_of
from graft.run.settings import TrainSettings
from graft.strategy.advice import Advice


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
        write_whole(json, text.encode())
    if out is not None:
        from graft.pages.advice import advice_page

        write_whole(out, advice_page(found, folder=Path(folder).name, network=network).encode())
    return found


def _advise(folder: Path, settings: TrainSettings, progress: Progress) -> tuple[Advice, str]:
    """The advice, and the network's name."""
    cache = cache_folder(settings.cache)
    with opened(folder, cache, csv=settings.csv, follow_links=settings.follow_links, progress=progress) as collection:
        ground = ground_of(collection, folder, settings, Clock(), progress)
        found = advise_on(ground.gathered, ground.trunk, ground.fold, settings, progress=progress)
    ground.store.trim()
    return found, ground.source.network


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
