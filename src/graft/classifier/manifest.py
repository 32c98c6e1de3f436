"""`model.json`: what a model folder holds and how it was made. It is read, validated and written by one type."""

from __future__ import annotations

import json
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic import BeforeValidator as Before

from graft.classifier.record import DataRecord, RunRecord
from graft.data.preprocess import Preprocess
from graft.errors import BadModel, shown
from graft.evaluate.metrics import Scores, from_json, to_json

SCHEMA: Final = 2
MANIFEST: Final = "model.json"
TOP: Final = ("features",)
"""What a head reads that stands where the network's own last layer stood."""
_MOST_BYTES: Final = 64 * 1024**2
_ONCE_IN_PHASES: Final = ("epochs", "best_epoch", "ended", "precision", "batch", "pictures_per_second")

ScoresField = Annotated[
    Scores, Before(lambda value: from_json(value) if isinstance(value, dict) else value), PlainSerializer(to_json)
]


class HeadRecord(BaseModel):
    """The head: the name of its linear layer in the weights, how it was fitted, and the outputs that it reads.

    reads: names of stages, whose maps are averaged over the picture, or "features", what the network's own last layer
    takes; side by side in this order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    kind: str = "logistic"
    reads: tuple[str, ...] = TOP


class Calibration(BaseModel):
    """How scores became probabilities that are as sure as they are right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str


class Manifest(BaseModel):
    """What `model.json` holds.

    network: the name the user gave. builder, architecture: whose code builds it, and its name there; arguments: what
    was changed in it, such as {"activation": "tanh"}. test: the scores on the test split. looks: how often that split
    has been used. seconds: by step, with `total` and `limit`, the least this machine could have taken. files: SHA-256
    by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: int = Field(alias="schema")
    graft: str
    network: str
    builder: Literal["timm", "graft"]
    architecture: str
    arguments: dict[str, str] = Field(default_factory=dict)
    head: HeadRecord
    classes: tuple[str, ...]
    preprocess: Preprocess
    calibration: Calibration
    strategy: str
    seed: int
    data: DataRecord
    test: ScoresField | None
    test_without_leaks: ScoresField | None = None
    looks: int
    seconds: dict[str, float]
    record: RunRecord
    files: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, as the file has them."""
        return self.model_dump(mode="json", by_alias=True)

    def to_bytes(self) -> bytes:
        """The file."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False).encode()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder, of this schema or an earlier one. Raises BadModel for anything else."""
    path = folder / MANIFEST
    if path.stat().st_size > _MOST_BYTES:
        raise BadModel(f"{shown(path)} is over {_MOST_BYTES >> 20} MiB, so graft did not write it; get a sound copy")
    try:
        fields = json.loads(path.read_bytes())
        schema = fields.get("schema") if isinstance(fields, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise BadModel(
                f"{shown(folder)} has schema {schema}, this graft reads up to {SCHEMA}; upgrade graft "
                "(pip install --upgrade graft)"
            )
        if schema == 1:
            fields = _from_schema_1(fields)
        if isinstance(fields, dict) and isinstance(fields.get("preprocess"), dict):
            fields["preprocess"] = _preprocess(fields["preprocess"], folder)
        return Manifest.model_validate(fields)
    except (ValidationError, ValueError, TypeError, AttributeError, RecursionError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadModel(f"{shown(path)} is not a manifest of graft ({detail}); get a sound copy of the model") from error


def _from_schema_1(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest as they were before heads named what they read, in the terms of today."""
    arguments, record = dict(fields.get("arguments", {})), dict(fields["record"])
    reads = arguments.pop("rungs", ",".join(TOP)).split(",")
    record["settings"] = {**record.get("settings", {}), **record.pop("training", {})}
    if "epochs" in record:  # of training from scratch, which is one phase
        record["phases"] = [{name: record.pop(name) for name in _ONCE_IN_PHASES}]
    record["maps"] = record.get("maps") or None
    head = {"layer": fields["head"], "kind": fields.get("head_kind", "logistic"), "reads": reads}
    kept = {name: value for name, value in fields.items() if name != "head_kind"}
    return {**kept, "schema": SCHEMA, "arguments": arguments, "head": head, "record": record}


def _preprocess(fields: dict[str, Any], folder: Path) -> Preprocess:
    """The preprocessing as a manifest states it, every field of its own type and nothing besides."""
    try:
        if odd := sorted(set(fields) ^ {field.name for field in dataclass_fields(Preprocess)}):
            raise ValueError(f"{shown(odd[0])} is missing, or no field of it")
        return TypeAdapter(Preprocess).validate_json(json.dumps(fields, allow_nan=False), strict=True)
    except ValueError as error:  # pydantic's own error is one
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadModel(
            f"{shown(folder)} has no usable preprocessing ({detail}); get a sound copy of the model"
        ) from error
