"""Draw values, right and wrong ones, and damage bytes and JSON."""

import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import numpy as np
import torch

from gfnet_env.registry import Registry

_ODD = (np.nan, np.inf, -np.inf, 1e30, -0.0)
_LARGE = (2**15, 2**31 - 1, 2**31, -(2**31), 2**63, 2**70, 10**30, 10**400)
WHOLE = (0, 1, -1, 2, 3, 7, 64, 255, *_LARGE)
REAL = (0.0, 0.5, 1.0, -1.0, -0.0, 1.5, 1e-300, 1e300, math.inf, -math.inf, math.nan)
TEXT = (
    *("", " ", "x", "é", "a\nb", "a\0b", "\udcff", "[/red]", "None", "true", "nan", "1e5", "0x10"),
    *("../..", "~", "-1", "=", ",", ":", "a=1", "a:b=1", "%s", "{}", "--run", "auto", "cpu", "1,2"),
    *("9" * 100, "[" * 100),
)


def number(draw: Random) -> int | float:
    """A number, of any size."""
    return draw.choice((draw.choice(WHOLE), draw.choice(REAL), draw.randint(-5, 20), draw.random()))


def anything(draw: Random, depth: int = 2) -> Any:
    """A value of any type."""
    kinds: list[Callable[[], Any]] = [
        lambda: number(draw),
        lambda: draw.choice(TEXT),
        lambda: draw.choice((None, True, False)),
        lambda: draw.choice((np.int64(3), np.uint8(1), np.float32(0.5), np.bool_(True), np.nan)),
        lambda: draw.choice((b"x", object(), int, len, 1j, Fraction(1, 2), Path("x"), range(3))),
        lambda: array(draw),
        lambda: torch.as_tensor(draw.choice((0, 1.5, [1, 2], [[0.5]]))),
    ]
    if depth:
        kinds += [
            lambda: [anything(draw, depth - 1) for _ in range(draw.randrange(4))],
            lambda: tuple(anything(draw, depth - 1) for _ in range(draw.randrange(4))),
            lambda: {draw.choice(TEXT): anything(draw, depth - 1)},
        ]
    return draw.choice(kinds)()


def array(draw: Random, shape: Sequence[int] | None = None) -> np.ndarray:
    """An array, by default of any shape, of any type."""
    if shape is None:
        shape = [draw.choice((0, 1, 2, 3, 5)) for _ in range(draw.randrange(5))]
    rng = np.random.default_rng(draw.getrandbits(32))
    kind = draw.choice(("f4", "f4", "f8", "f2", "i8", "u1", "u2", "i4", "u8", "?", "c8", "O", "U1"))
    values = rng.uniform(-1.5, 3, shape)
    if draw.random() < 0.3 and values.size:
        values.flat[draw.randrange(values.size)] = draw.choice(_ODD)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(values).astype(kind)


def fitting(draw: Random, hint: Any, parts: Registry[Any] | None = None) -> Any:
    """A value of an annotation's type, though not always within its range."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return fitting(draw, arguments[0], parts)
    if origin in (typing.Union, types.UnionType):
        return fitting(draw, draw.choice(arguments), parts)
    if origin is Literal:
        return draw.choice(arguments)
    if origin in (tuple, list, Sequence) or (origin is not None and issubclass(origin, Sequence)):
        many = origin is not tuple or arguments[-1] is ...
        kinds = arguments[:1] * draw.randrange(5) if many else arguments
        return draw.choice((list, tuple))([fitting(draw, kind, parts) for kind in kinds])
    if origin is not None and issubclass(origin, Mapping):
        return {draw.choice(TEXT): fitting(draw, arguments[1]) for _ in range(draw.randrange(3))}
    simple: dict[Any, Callable[[], Any]] = {
        bool: lambda: draw.random() < 0.5,
        int: lambda: draw.choice(WHOLE) if draw.random() < 0.25 else draw.randint(1, 9),
        float: lambda: number(draw) if draw.random() < 0.25 else draw.random(),
        str: lambda: spec(draw, parts) if parts is not None else draw.choice(TEXT),
        Path: lambda: draw.choice((Path, str))(draw.choice(TEXT)),
        type(None): lambda: None,
    }
    return simple.get(hint, lambda: anything(draw))()


def spec(draw: Random, parts: Registry[Any], names: Sequence[str] = ()) -> str:
    """A spec of one of some parts, with right and wrong names and parameters."""
    name = draw.choice(list(names or parts))
    known = parts.parameters(name) if name in parts else {}
    items = []
    for _ in range(draw.choice((0, 0, 1, 1, 1, 2, 3)) if known else draw.random() < 0.1):
        key = draw.choice(list(known)) if known and draw.random() < 0.95 else draw.choice(TEXT)
        if key in known and draw.random() < 0.85:
            value = fitting(draw, known[key].annotation)
        else:
            value = anything(draw)
        items.append(f"{key}={written(value)}")
    text = name + (":" + ",".join(items) if items or draw.random() < 0.05 else "")
    if draw.random() < 0.05:
        text = damaged(draw, text.encode(errors="surrogateescape")).decode(errors="replace")
    return draw.choice((f"gfnet_env:{text}", f"math:{text}")) if draw.random() < 0.03 else text


def written(value: Any) -> str:
    """A value as in a spec or on a command line."""
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


def damaged(draw: Random, content: bytes, times: int | None = None) -> bytes:
    """Bytes with some of them changed, moved, left out or put in."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8)) if times is None else times):
        first = draw.randrange(len(data) + 1)
        last = min(len(data), first + draw.choice((1, 1, 2, 4, 16, 300)))
        changes: list[bytes] = [
            bytes([draw.randrange(256)]),
            bytes([draw.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (last - first),
            draw.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1")),
            draw.randbytes(last - first),
            b"",
            bytes(data[first:last]) * 2,
            bytes(data[first:last])[::-1],
            bytes(byte ^ 1 << draw.randrange(8) for byte in data[first : first + 1]),
        ]
        data[first:last] = draw.choice(changes)
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data)


def edited(draw: Random, value: Any) -> Any:
    """JSON with one value, somewhere in it, left out, put in or of another type."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return _json(draw)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, copy = draw.choice(keys), value.copy()
    change = draw.random()
    if change < 0.7:
        copy[key] = edited(draw, value[key])
    elif change < 0.85:
        del copy[key]
    elif isinstance(copy, dict):
        copy[draw.choice(TEXT[:20])] = _json(draw)
    else:
        copy.insert(key, _json(draw))
    return copy


def _json(draw: Random, depth: int = 2) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: number(draw),
        lambda: draw.choice(TEXT[:20]),
        lambda: draw.choice((None, True, False)),
    ]
    if depth:
        kinds += [
            lambda: [_json(draw, depth - 1) for _ in range(draw.randrange(4))],
            lambda: {draw.choice(TEXT[:20]): _json(draw, depth - 1)},
        ]
    return draw.choice(kinds)()
