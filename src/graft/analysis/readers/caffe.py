"""The table of a network described by a Caffe prototxt, without Caffe: its layers, their shapes and their cost.

Both forms of the file are read, `layer { type: "Convolution" }` and the older `layers { type: CONVOLUTION }`. Layers
are those of one phase, TEST unless said otherwise. Losses and accuracies end a network and make no row.

Source: Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding", ACM MM 2014, and the messages of
Caffe's `caffe.proto`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from graft.analysis.readers.prototext import Message, parse
from graft.analysis.receptive_field import Field
from graft.analysis.table import PICTURE, Analysis, Layer, Pair, Shape, overwriting
from graft.errors import UsageError, nearest, shown

Phase = Literal["TRAIN", "TEST"]


@dataclass(frozen=True)
class _Blob:
    """A named array of Caffe: its shape without the batch, the rows that made it, and what its positions see.

    grid: how many positions there are, rows and columns, also where flattening has put them among the channels.
    """

    shape: Shape
    rows: tuple[int, ...]
    field: Field | None
    grid: Pair


def analyze_prototxt(text: str, *, name: str = "", input_shape: Shape | None = None, phase: Phase = "TEST") -> Analysis:
    """A row for each layer of a Caffe network.

    text: the prototxt. input_shape: (C, H, W), which replaces the file's own. name: the file's when empty.
    Raises UsageError for text that is no network, an unknown layer, a missing bottom, or no input shape.
    """
    net = parse(text)
    layers = [layer for layer in (*net.messages("layer"), *net.messages("layers")) if _runs_in(layer, phase)]
    if not layers:
        raise UsageError("the prototxt has no layers; give one with 'layer { ... }' in it, such as a deploy.prototxt")
    blobs: dict[str, _Blob] = {}
    first_shape: Shape | None = None
    for blob, shape in _declared_inputs(net, layers):
        chosen = shape if input_shape is None or first_shape is not None else input_shape
        first_shape = first_shape or chosen
        blobs[blob] = _input_blob(chosen)
    if first_shape is None:
        inputs = [top for layer in layers if _kind(layer) in _DATA for top in layer.all("top")[:1]]
        if not inputs or input_shape is None:
            raise UsageError("the prototxt gives no input shape; add --input C,H,W")
        first_shape = input_shape
        blobs[str(inputs[0])] = _input_blob(input_shape)
    rows: list[Layer] = []
    for message in layers:
        if (kind := _kind(message)) not in _DATA and kind not in _ENDS:
            _run(message, kind, blobs, rows)
    return Analysis(name or net.text("name", "network"), first_shape, overwriting(rows))


def read_prototxt(path: Path, *, input_shape: Shape | None = None, phase: Phase = "TEST") -> Analysis:
    """The same from a file. Raises UsageError also when it cannot be read as text."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {shown(path)} as a prototxt: {shown(error)}; give a text file") from error
    return analyze_prototxt(text, input_shape=input_shape, phase=phase)


def _input_blob(shape: Shape) -> _Blob:
    return _Blob(shape, (PICTURE,), Field() if len(shape) == 3 else None, _grid(shape))


def _grid(shape: Shape) -> Pair:
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def _runs_in(layer: Message, phase: Phase) -> bool:
    """Whether a layer belongs to a phase, by its `include` and `exclude` rules (without levels and stages)."""

    def named(rules: str) -> list[str]:
        return [rule.text("phase", phase) for rule in layer.messages(rules)]

    included = named("include")
    return phase in included if included else phase not in named("exclude")


def _kind(layer: Message) -> str:
    """The type as the newer files write it: INNER_PRODUCT → InnerProduct."""
    written = layer.text("type")
    if not written.isupper():
        return written
    return _OLD_NAMES.get(written, "".join(part.capitalize() for part in written.split("_")))


def _declared_inputs(net: Message, layers: Sequence[Message]) -> list[tuple[str, Shape]]:
    """Names and shapes of inputs, from `input` fields, Input layers or a data layer's crop size."""
    names = [str(value) for value in net.all("input")]
    shapes = [shape.integers("dim") for shape in net.messages("input_shape")]
    flat = net.integers("input_dim")
    shapes = shapes or [flat[i : i + 4] for i in range(0, len(flat), 4)]
    found = [(name, tuple(shape[1:])) for name, shape in zip(names, shapes, strict=False)]
    for layer in layers:
        kind, tops = _kind(layer), [str(top) for top in layer.all("top")]
        if kind == "Input":
            listed = [shape.integers("dim") for shape in layer.message("input_param").messages("shape")]
            found += [(top, tuple(shape[1:])) for top, shape in zip(tops, listed * len(tops), strict=False)]
        elif kind in _DATA and (crop := layer.message("transform_param").integer("crop_size", 0)) and tops:
            channels = 1 if layer.message("transform_param").flag("force_gray", False) else 3
            found.append((tops[0], (channels, crop, crop)))
    return found


def _run(message: Message, kind: str, blobs: dict[str, _Blob], rows: list[Layer]) -> None:
    """Add one layer's row and its tops."""
    name, tops = message.text("name", kind), [str(top) for top in message.all("top")]
    bottoms = [str(bottom) for bottom in message.all("bottom")]
    if kind not in _LAYERS:
        raise UsageError(f"layer {name!r} is of the unknown type {shown(kind)!r}{nearest(kind, _LAYERS)}")
    for bottom in bottoms:
        if bottom not in blobs:
            raise UsageError(f"layer {name!r} reads {bottom!r}, which no layer before it makes{nearest(bottom, blobs)}")
    if not bottoms or not tops:
        raise UsageError(f"layer {name!r} needs a bottom and a top, got {len(bottoms)} and {len(tops)}")
    sources = [blobs[bottom] for bottom in bottoms]
    feeds = tuple(dict.fromkeys(row for source in sources for row in source.rows))
    base = Layer(
        name, _WORDS.get(kind, kind.lower()), feeds, sources[0].shape, sources[0].shape, field=sources[0].field
    )
    layer = _LAYERS[kind](message, base, sources)
    if any(side < 1 for side in layer.output_shape):
        sizes = "×".join(str(side) for side in sources[0].shape)
        raise UsageError(f"layer {name!r} makes nothing of an input of {sizes}; give the network a larger --input")
    if kind in ("Split", "Slice"):
        for top, shape in zip(tops, _parts(message, sources[0], len(tops)) if kind == "Slice" else [], strict=False):
            blobs[top] = replace(sources[0], shape=shape)
        blobs.update(dict.fromkeys(tops, sources[0]) if kind == "Split" else {})
        return
    new = (tops[0] not in bottoms or kind == "BatchNorm") and kind != "Flatten"  # a norm keeps what it was given
    layer = replace(layer, activation_bytes=layer.output_bytes if new else 0)
    rows.append(layer)
    grid = sources[0].grid if kind == "Flatten" else _grid(layer.output_shape)
    blobs[tops[0]] = _Blob(layer.output_shape, (len(rows) - 1,), layer.field, grid)


def _pair(message: Message, name: str, default: int) -> Pair:
    """`kernel_size: 3` (once or once a side), or `kernel_h` and `kernel_w`."""
    stem = {"kernel_size": "kernel"}.get(name, name)
    if message.all(f"{stem}_h") or message.all(f"{stem}_w"):
        return message.integer(f"{stem}_h", default), message.integer(f"{stem}_w", default)
    values = message.integers(name) or [default]
    return values[0], values[-1]


def _square(base: Layer) -> Pair:
    """The sides of a map. Raises UsageError for what is no map."""
    if len(base.input_shape) != 3:
        raise UsageError(f"layer {base.name!r} needs a map C×H×W, got the shape {base.input_shape}; check its bottom")
    return base.input_shape[1], base.input_shape[2]


def _positive(base: Layer, name: str, values: Sequence[int]) -> None:
    if min(values) < 1:
        raise UsageError(f"layer {base.name!r} needs {name} of at least 1, got {min(values)}; set it in the prototxt")


def _convolution(message: Message, base: Layer, _sources: Sequence[_Blob]) -> Layer:
    """⌊(H + 2p − d(k − 1) − 1) / s⌋ + 1, or its transpose s(H − 1) + d(k − 1) + 1 − 2p."""
    given = message.message("convolution_param")
    sides, channels = _square(base), base.input_shape[0]
    kernel, stride = _pair(given, "kernel_size", 0), _pair(given, "stride", 1)
    padding, dilation = _pair(given, "pad", 0), _pair(given, "dilation", 1)
    outputs, groups = given.integer("num_output", 0), given.integer("group", 1)
    _positive(base, "kernel_size, stride, num_output and group", (*kernel, *stride, outputs, groups))
    if channels % groups or outputs % groups:
        raise UsageError(f"layer {base.name!r} cannot split {channels} channels into {outputs} by {groups} groups")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    transposed = base.kind == "transposed conv"
    if transposed:
        out = [s * (h - 1) + r - 2 * p for h, r, p, s in zip(sides, reach, padding, stride, strict=True)]
    else:
        out = [(h + 2 * p - r) // s + 1 for h, r, p, s in zip(sides, reach, padding, stride, strict=True)]
    weights = math.prod(kernel) * channels * outputs // groups
    field = base.field and (
        base.field.transposed(kernel, stride, padding, dilation)
        if transposed
        else base.field.window(kernel, stride, padding, dilation)
    )
    return replace(
        base,
        output_shape=(outputs, out[0], out[1]),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        parameters=weights + outputs * given.flag("bias_term", True),
        macs=weights * math.prod(sides if transposed else out),
        field=field,
    )


def _pooling(message: Message, base: Layer, _sources: Sequence[_Blob]) -> Layer:
    """⌈(H + 2p − k) / s⌉ + 1, less one when the last window would start in the padding after the map."""
    given = message.message("pooling_param")
    sides, channels = _square(base), base.input_shape[0]
    kernel, stride, padding = _pair(given, "kernel_size", 0), _pair(given, "stride", 1), _pair(given, "pad", 0)
    if given.flag("global_pooling", False):
        kernel, stride, padding = sides, sides, (0, 0)
    _positive(base, "kernel_size and stride", (*kernel, *stride))
    round_down = given.text("round_mode", "CEIL") in ("FLOOR", "1")
    out = [_pooled_side(h, k, s, p, round_down) for h, k, s, p in zip(sides, kernel, stride, padding, strict=True)]
    return replace(
        base,
        kind={"AVE": "avg pool", "1": "avg pool", "STOCHASTIC": "stochastic pool"}.get(given.text("pool"), "max pool"),
        output_shape=(channels, out[0], out[1]),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        pool_operations=channels * math.prod(out) * math.prod(kernel),
        field=base.field and base.field.window(kernel, stride, padding),
    )


def _pooled_side(side: int, kernel: int, stride: int, padding: int, round_down: bool) -> int:
    room = side + 2 * padding - kernel
    steps = room // stride if round_down else -(-room // stride)
    starts_outside = padding > 0 and steps * stride >= side + padding
    return steps + 1 - starts_outside


def _inner_product(message: Message, base: Layer, sources: Sequence[_Blob]) -> Layer:
    given = message.message("inner_product_param")
    inside, outputs = math.prod(base.input_shape), given.integer("num_output", 0)
    _positive(base, "num_output", [outputs])
    return replace(
        base,
        output_shape=(outputs,),
        parameters=inside * outputs + outputs * given.flag("bias_term", True),
        macs=inside * outputs,
        field=base.field and base.field.all_of(sources[0].grid),
    )


def _concat(message: Message, base: Layer, sources: Sequence[_Blob]) -> Layer:
    given = message.message("concat_param")
    axis = given.integer("axis", given.integer("concat_dim", 1)) % (len(base.input_shape) + 1) - 1
    others = {source.shape[:axis] + source.shape[axis + 1 :] for source in sources}
    if axis < 0 or len(others) > 1:
        shapes = ", ".join("×".join(map(str, source.shape)) for source in sources)
        raise UsageError(f"layer {base.name!r} cannot join {shapes}; only axis 1 may differ; check strides and pads")
    shape = list(base.input_shape)
    shape[axis] = sum(source.shape[axis] for source in sources)
    return replace(base, output_shape=tuple(shape), field=_union(sources))


def _eltwise(message: Message, base: Layer, sources: Sequence[_Blob]) -> Layer:
    if len({source.shape for source in sources}) > 1:
        shapes = ", ".join("×".join(map(str, source.shape)) for source in sources)
        raise UsageError(f"layer {base.name!r} cannot combine {shapes}; give it bottoms of one shape")
    operation = message.message("eltwise_param").text("operation", "SUM")
    kind = {"PROD": "multiply", "0": "multiply", "MAX": "maximum", "2": "maximum"}.get(operation, "add")
    return replace(base, kind=kind, field=_union(sources))


def _union(sources: Sequence[_Blob]) -> Field | None:
    fields = [source.field for source in sources if source.field is not None]
    if len(fields) < len(sources):
        return None
    whole = fields[0]
    for field in fields[1:]:
        whole = whole.union(field)
    return whole


def _scale(message: Message, base: Layer, sources: Sequence[_Blob]) -> Layer:
    """A learnt factor and offset for each channel, or the product with a second bottom (a gate)."""
    if len(sources) > 1:
        gated = base.field and replace(base.field, gated=True)
        return replace(base, kind="multiply", field=gated)
    terms = 1 + message.message("scale_param").flag("bias_term", False)
    return replace(base, parameters=base.input_shape[0] * terms)


def _bias(_message: Message, base: Layer, sources: Sequence[_Blob]) -> Layer:
    return replace(base, parameters=base.input_shape[0] if len(sources) == 1 else 0)


def _prelu(message: Message, base: Layer, _sources: Sequence[_Blob]) -> Layer:
    shared = message.message("prelu_param").flag("channel_shared", False)
    return replace(base, parameters=1 if shared else base.input_shape[0])


def _flatten(_message: Message, base: Layer, _sources: Sequence[_Blob]) -> Layer:
    return replace(base, output_shape=(math.prod(base.input_shape),))


def _unchanged(_message: Message, base: Layer, _sources: Sequence[_Blob]) -> Layer:
    return base


def _parts(message: Message, source: _Blob, tops: int) -> list[Shape]:
    """The channels of Slice's tops."""
    points = message.message("slice_param").integers("slice_point")
    channels = source.shape[0]
    edges = [0, *points, channels] if points else [channels * i // tops for i in range(tops + 1)]
    return [(high - low, *source.shape[1:]) for low, high in pairwise(edges)]


_Rule = Callable[[Message, Layer, Sequence[_Blob]], Layer]
_UNCHANGED: Final = (
    *("ReLU", "ReLU6", "ELU", "Sigmoid", "TanH", "AbsVal", "Power", "Exp", "Log", "BNLL", "Threshold", "LRN", "MVN"),
    *("Dropout", "BatchNorm", "Softmax", "Split", "Slice"),
)
_LAYERS: Final[dict[str, _Rule]] = {
    **dict.fromkeys(_UNCHANGED, _unchanged),
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "InnerProduct": _inner_product,
    "Concat": _concat,
    "Eltwise": _eltwise,
    "Scale": _scale,
    "Bias": _bias,
    "PReLU": _prelu,
    "Flatten": _flatten,
}
_DATA: Final = ("Input", "Data", "ImageData", "HDF5Data", "MemoryData", "DummyData", "WindowData")
_ENDS: Final = (
    *("SoftmaxWithLoss", "SoftmaxLoss", "Accuracy", "Silence", "ArgMax", "EuclideanLoss", "HingeLoss"),
    *("SigmoidCrossEntropyLoss", "MultinomialLogisticLoss", "InfogainLoss", "ContrastiveLoss"),
)
_OLD_NAMES: Final = {"RELU": "ReLU", "PRELU": "PReLU", "LRN": "LRN", "TANH": "TanH", "ELU": "ELU", "BNLL": "BNLL"} | {
    "ABSVAL": "AbsVal",
    "HDF5_DATA": "HDF5Data",
    "MVN": "MVN",
    "ARGMAX": "ArgMax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
}
_WORDS: Final = {
    "Convolution": "conv",
    "Deconvolution": "transposed conv",
    "Pooling": "max pool",
    "InnerProduct": "linear",
    "BatchNorm": "batch norm",
}
