"""Checkpoints: all that a run needs to go on after it was killed, in one file that is whole or not there.

A file is written under another name, flushed to the disk and renamed. The SHA-256 of its contents stands in its header
and is checked when it is read; two are kept, so that the older one serves where the newer is damaged. The format is
safetensors: tensors, and numbers as JSON. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from graft.disk.files import whole_file
from graft.disk.lock import locked
from graft.errors import BadModel, GraftError, shown

KEPT: Final = 2
_NAME: Final = re.compile(r"(checkpoint|best)-(\d+)\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, and facts that JSON can hold (floats come back bit for bit), as they were after `step`."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write one file; it is on the disk, whole, when this returns.

    Raises GraftError when the disk is full or the folder cannot be written; nothing is left half-written then.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, allow_nan=False)
    try:
        with whole_file(path) as partial:
            partial.write_bytes(save(plain, metadata={"facts": text, "sha256": _digest(plain, text)}))
    except OSError as error:
        raise GraftError(
            f"the checkpoint cannot be written: {shown(path)}: {error.strerror}; free some space and resume the run"
        ) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of one file. Raises BadModel for a file that is not whole and unaltered."""
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadModel(f"{shown(path)} cannot be read: {shown(error)}") from error
    if header.get("sha256") != _digest(tensors, header.get("facts", "")):
        raise BadModel(f"{shown(path)} is damaged: its contents do not have the SHA-256 that it was written with")
    return tensors, json.loads(header["facts"])


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint-<step>.safetensors`, then remove all but the newest two and the best weights they speak of.

    A checkpoint's `facts["best_file"]` names the file of the best weights as of then, or is None.
    """
    write(folder / f"checkpoint-{checkpoint.step}.safetensors", checkpoint.tensors, checkpoint.facts)
    kept = _numbered(folder, "checkpoint")[:KEPT]
    spoken_of = {_facts(path).get("best_file") for path in kept}
    for path in (*_numbered(folder, "checkpoint"), *_numbered(folder, "best")):
        if path not in kept and path.name not in spoken_of:
            path.unlink(missing_ok=True)


def load_newest(folder: Path) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest sound checkpoint of a folder (None: there is none at all), and a notice for each damaged one.

    Damaged files are removed once a sound one is read. Raises BadModel when every one of them is damaged.
    """
    notices: list[str] = []
    damaged: list[Path] = []
    for path in _numbered(folder, "checkpoint"):
        try:
            tensors, facts = read(path)
            if best := facts.get("best_file"):
                read(folder / best)
        except BadModel as error:
            notices.append(f"{error}; the one before it is used")
            damaged.append(path)
            continue
        for other in damaged:
            other.unlink()
        return Checkpoint(_step(path), tensors, facts), tuple(notices)
    if damaged:
        raise BadModel(f"no checkpoint of {shown(folder)} is sound: {notices[0]}; start the run anew in another folder")
    return None, ()


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors, by `<parameter>.<name>`, and the rest of it as JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for place, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{place}.{name}"] = value
            else:
                numbers.setdefault(str(place), {})[name] = value
    return tensors, {"numbers": numbers, "param_groups": state["param_groups"]}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Put back what `optimizer_tensors` took; tensors get the memory layout of their parameter, as they had."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(place): dict(entries) for place, entries in rest["numbers"].items()}
    for key, value in tensors.items():
        place, name = key.split(".", 1)
        parameter = parameters[int(place)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(place), {})[name] = value
    groups = [{name: _as_it_was(name, value) for name, value in group.items()} for group in rest["param_groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be. Raises UsageError when another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = f"another run is training in {shown(folder)}; wait for it, or choose another folder"
    with locked(folder / "run.lock", taken=taken):
        yield


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    """The facts alone, without reading and checking the tensors."""
    with safe_open(path, framework="pt") as stream:
        facts: dict[str, Any] = json.loads(stream.metadata()["facts"])
    return facts


def _numbered(folder: Path, kind: str) -> list[Path]:
    """Files such as `checkpoint-12.safetensors`, the highest step first."""
    named = [path for path in folder.glob(f"{kind}-*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(named, key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[2])


def _as_it_was(name: str, value: Any) -> Any:
    """JSON has lists for the tuples of an optimiser's settings, such as betas; only its parameters are a list."""
    return tuple(value) if isinstance(value, list) and name != "params" else value
