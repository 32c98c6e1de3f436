"""`graft train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.recipe_options import with_recipe_flags

if TYPE_CHECKING:
    from graft.cli.live import Watch
    from graft.progress import Progress
    from graft.training.loop.history import Event


@with_recipe_flags()
def train(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Class folders, ready splits of them, a zip of either, a .npz file, or a folder of IDX files."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.", rich_help_panel="The run")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model at --out.", rich_help_panel="The run")
    ] = False,
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; flags win over it.", rich_help_panel="The run")
    ] = None,
    **flags: Any,
) -> None:
    """Learn to tell the classes of FOLDER apart, and say honestly how well."""
    from graft.cli.texts.train import summary
    from graft.jobs import train as job
    from graft.training.recipe.read import recipe_of

    recipe = recipe_of(flags, file=settings)
    with _views() as (progress, watch):
        manifest = job.run(folder, out, recipe, force=force, progress=progress, watch=watch)
    print(summary(manifest, out))


@contextmanager
def _views() -> Iterator[tuple[Progress, Watch]]:
    """Bars while a job works, and the curves in their place while a network trains."""
    from graft.cli.live import live_view
    from graft.cli.show import progress_bar
    from graft.training.loop.history import End, Start

    with ExitStack() as shown:
        bars = shown.enter_context(progress_bar())
        curves: Watch | None = None

        def progress(what: str, done: int, total: int) -> None:
            bars(what, done, total)

        def watch(event: Event) -> None:
            nonlocal bars, curves
            if isinstance(event, Start) or curves is None:
                shown.close()
                curves = shown.enter_context(live_view())
            curves(event)
            if isinstance(event, End):
                shown.close()
                bars = shown.enter_context(progress_bar())

        yield progress, watch
