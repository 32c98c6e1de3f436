"""A program run as its user runs it: a whole process, from its start to its end, with what it cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from csv import DictReader
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

POLL = 0.1  # seconds between two looks at a running process


@dataclass(frozen=True)
class Cost:
    """What a process took. began: time.monotonic() at its start. seconds: until its end. processor_seconds: of all
    cores, its children's among them. peak_mib: the most resident memory that it held itself.
    """

    began: float
    seconds: float
    processor_seconds: float
    peak_mib: float


class RunFailedError(Exception):
    """A process that ended with another status than 0; the message is the last line that it wrote."""


def run(command: Sequence[str], *, look: Callable[[float], None] | None = None, path: str = "") -> tuple[Cost, str]:
    """Run a command to its end, and return its cost and what it printed.

    look: called every tenth of a second with the seconds since the start. path: the PYTHONPATH of the process. What it
    writes to its standard error is passed on at once. Raises RunFailedError with the last line of that.
    """
    environment = {**os.environ, "PYTHONPATH": path} if path else None
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        began, peak, passed_on = time.monotonic(), 0.0, 0
        process = subprocess.Popen(command, stdout=output, stderr=said, env=environment)
        try:
            ended = False
            while not ended:
                child, status, usage = os.wait4(process.pid, os.WNOHANG)
                seconds, ended = time.monotonic() - began, bool(child)
                peak = max(peak, peak_mib(process.pid))
                passed_on += sys.stderr.buffer.write(_from(said, passed_on))
                sys.stderr.flush()
                if look is not None:
                    look(seconds)
                if not ended:
                    time.sleep(POLL)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            lines = _from(said, 0).decode(errors="replace").strip().splitlines()
            raise RunFailedError((lines or [f"exit status {process.returncode}"])[-1])
        return Cost(began, seconds, usage.ru_utime + usage.ru_stime, peak), _from(output, 0).decode()


def _from(file: IO[bytes], start: int) -> bytes:
    """The bytes of a file from `start` on, its position (which the writing process shares) left alone."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size - start, start)


def peak_mib(process: int) -> float:
    """The most resident memory that a process held so far, MiB; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


@dataclass(frozen=True)
class Trained:
    """A finished `graft train`, its manifest, and what it says of the test pictures.

    validation: (seconds since the process began, accuracy) at the end of each epoch, as written while it worked.
    right: by path, whether a test picture was named rightly. disk_mib: what lies in its cache.
    """

    cost: Cost
    manifest: dict[str, Any]
    validation: tuple[tuple[float, float], ...]
    right: dict[str, bool]
    disk_mib: float

    @property
    def test_accuracy(self) -> float:
        """Top-1 on the test pictures, 0–1."""
        assert self.manifest["test"] is not None
        return float(self.manifest["test"]["top1"]["value"])


def graft_train(folder: Path, split: Path, arguments: Sequence[str], *, cache: Path | None = None) -> Trained:
    """Run `graft train` on a split; cache: None for an empty one. Raises RunFailedError when it refuses."""
    graft = str(Path(sys.executable).parent / "graft")
    with tempfile.TemporaryDirectory() as work:
        home, cache = Path(work) / "run", cache or Path(work) / "cache"
        home.mkdir()
        watch = _Histories(home)
        command = [graft, "train", str(folder), "--csv", str(split), "--out", str(home / "model"),
                   "--cache", str(cache), *arguments]  # fmt: skip
        cost, _ = run(command, look=watch)
        manifest = json.loads((home / "model" / "model.json").read_text())
        right = _right(home / "model" / "samples.csv")
        disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return Trained(cost, manifest, tuple(watch.epochs), right, disk / 2**20)


def packed(right: dict[str, bool]) -> dict[str, Any]:
    """What a result keeps of `Trained.right`: n, and a bit for each picture in the order of their paths, in hex."""
    bits = np.array([right[path] for path in sorted(right)])
    return {"n": len(bits), "right_hex": np.packbits(bits).tobytes().hex()}


def unpacked(result: dict[str, Any]) -> NDArray[np.bool_]:
    """(n,) whether each picture, in the order of their paths, was named rightly, of a result that `packed` made."""
    bits = np.frombuffer(bytes.fromhex(result["right_hex"]), np.uint8)
    return np.unpackbits(bits, count=result["n"]).astype(np.bool_)


class _Histories:
    """Reads the histories below a folder as they grow, whatever their number, and notes when each epoch ended."""

    def __init__(self, home: Path) -> None:
        self.epochs: list[tuple[float, float]] = []
        self._home, self._sizes, self._seen = home, dict[Path, int](), set[str]()

    def __call__(self, seconds: float) -> None:
        for folder, _, _ in os.walk(self._home):  # which, unlike rglob, passes over a folder that goes meanwhile
            file = Path(folder) / "history.jsonl"
            try:
                text = file.read_text()
            except FileNotFoundError:  # none there, or moved
                continue
            if self._sizes.get(file) == len(text):
                continue
            self._sizes[file] = len(text)
            for line in text.split("\n")[:-1]:  # the last may be half a line
                if line not in self._seen:  # the finished model has a copy of the history
                    self._seen.add(line)
                    event = json.loads(line)
                    if event.get("kind") == "epoch" and event["val"] is not None:
                        self.epochs.append((seconds, event["val"]["accuracy"]))


def _right(samples: Path) -> dict[str, bool]:
    with samples.open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row["predicted"] == row["label"] for row in DictReader(stream) if row["part"] == "test"}
