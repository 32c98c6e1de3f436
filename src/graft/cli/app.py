"""The command `graft`. Nothing heavy is imported before a command needs it: `--help` must answer at once."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from graft.cli.commands import (
    advise,
    analyze,
    audit,
    augment,
    check,
    curves,
    demo,
    evaluate,
    info,
    networks,
    playground,
    predict,
    schedule,
    search,
    train,
)
from graft.errors import GraftError

app = typer.Typer(
    name="graft",
    help="From a folder of labelled pictures to a classifier you can trust, on the computer you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"graft {version('graft')}")
        raise typer.Exit


@app.callback()
def _graft(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """From a folder of labelled pictures to a classifier you can trust, on the computer you have."""


_INTERRUPTED = 130  # the shell's exit status for Ctrl-C
_COLLECT_AFTER = 50_000  # new objects, of which importing torch makes millions: usual is 700, and half a second more
START, PICTURES, USE = "Start here", "Look at pictures", "Use a model"
NETWORKS, TRAINING = "Look at networks", "Look at training"

app.command("demo", rich_help_panel=START)(demo.demo)
app.command("train", rich_help_panel=START)(train.train)
app.command("advise", rich_help_panel=START)(advise.advise)
app.command("audit", rich_help_panel=PICTURES)(audit.audit)
app.command("augment", rich_help_panel=PICTURES)(augment.augment)
app.command("info", rich_help_panel=USE)(info.info)
app.command("predict", rich_help_panel=USE)(predict.predict)
app.command("evaluate", rich_help_panel=USE)(evaluate.evaluate)
app.command("search", rich_help_panel=USE)(search.search)
app.command("networks", rich_help_panel=NETWORKS)(networks.networks)
app.command("analyze", rich_help_panel=NETWORKS)(analyze.analyze)
app.command("compare", rich_help_panel=NETWORKS)(analyze.compare)
app.command("check", rich_help_panel=TRAINING)(check.check)
app.command("curves", rich_help_panel=TRAINING)(curves.curves)
app.command("schedule", rich_help_panel=TRAINING)(schedule.schedule)
app.command("playground", rich_help_panel=TRAINING)(playground.playground)


def main() -> None:
    """Run the command line; errors that the user can mend are one line on standard error."""
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)  # what is left at the end goes with the process: a second, where torch was imported
    try:
        status = app(standalone_mode=False)  # typer makes 130 of Ctrl-C
    except GraftError as error:
        _say(str(error))
        sys.exit(error.exit_status)
    except BrokenPipeError:  # the reader of our output has gone, as `graft predict … | head` does
        sys.stderr.close()
        sys.exit(1)
    except typer.Abort:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # click's usage errors, whichever copy of click raised them
        if usage is not None:
            _say(" ".join(usage().split()))
            sys.exit(getattr(error, "exit_code", 2))
        if not _came_from_interrupt(error):
            raise
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _say("stopped; nothing half-written was left, and what was computed is kept in the cache")
    sys.exit(status if isinstance(status, int) else 0)


def _came_from_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a compiled module interrupted while it is imported raises ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _say(message: str) -> None:
    print(f"graft: {message}", file=sys.stderr)
