"""Settings: dataclasses with checks of every field.

The annotation of a field states its range: ``epochs: Annotated[int, AtLeast(1)] = 10``. A group of
settings is a field too, ``images: Flat[ImageOptions]``; its names have no prefix on the command
line and in saved configurations. A setting that was not given is None.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from gfnet_env.paths import user_path

Value = TypeVar("Value")

# A group of settings without a name prefix on the command line and in files.
Flat = Annotated[Value, "flat"]
# A setting that the command line gives without its name.
Positional = Annotated[Value, "positional"]

# The value of a setting that was not given.
UNSET: Any = None
if TYPE_CHECKING:
    # Code fills in such a field before reading it, see ``Settings.with_defaults``.
    OrUnset = Annotated[Value, "or UNSET"]
else:
    OrUnset = Value | None


class Limit:
    """A condition on a number.

    Attributes:
        holds: Whether a number meets the condition.
        wanted: Description of the condition, for messages.
    """

    def __init__(self, holds: Callable[[float], bool], wanted: str) -> None:
        self.holds, self.wanted = holds, wanted


class AtLeast(Limit):
    """x ≥ low."""

    def __init__(self, low: float) -> None:
        super().__init__(lambda value: value >= low, f"at least {low:g}")


class AtMost(Limit):
    """x ≤ high."""

    def __init__(self, high: float) -> None:
        super().__init__(lambda value: value <= high, f"at most {high:,}")


class Above(Limit):
    """x > low."""

    def __init__(self, low: float) -> None:
        super().__init__(lambda value: value > low, f"above {low:g}" if low else "positive")


class Below(Limit):
    """x < high."""

    def __init__(self, high: float) -> None:
        super().__init__(lambda value: value < high, f"below {high:g}")


class Between(Limit):
    """low ≤ x ≤ high."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(lambda value: low <= value <= high, f"in [{low:g}, {high:g}]")


# What the generators of Python, numpy and torch all take.
Seed = Annotated[int, AtLeast(0), AtMost(2**32 - 1)]
# More classes than any data set has.
MOST_CLASSES = 1_000_000


class Settings:
    """Base of frozen dataclasses of settings, which checks every field.

    Paths may be given as text; ``~`` stands for the home folder.

    Raises:
        ValueError: A value has the wrong type or is out of range; the message names it.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, checked(name, getattr(self, name), hint))

    @classmethod
    def of(cls, /, **values: Any) -> Self:
        """Make settings from values by their command-line names, without prefixes of flat groups.

        A group that is not flat may be a mapping of its own names.

        Raises:
            ValueError: A name is unknown, or a value is wrong or missing.
        """
        _check_names(cls, values)
        return cls.from_json(values)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over names (see ``of``) and values."""
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            if _group(hint)[1]:
                yield from value.items()
            else:
                yield name, value

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, by the names of ``of``."""
        return type(self).of(**dict(self.items()) | changes)

    def given(self) -> dict[str, Any]:
        """The settings that were given, by the names of ``of``."""
        return {
            name: value.given() if isinstance(value, Settings) else value
            for name, value in self.items()
            if value is not None
        }

    def with_defaults(self, *layers: Mapping[str, Any]) -> Self:
        """A copy with each missing setting from the first layer (see ``given``) that has it."""
        values: dict[str, Any] = {}
        for name, value in self.items():
            found = [layer[name] for layer in layers if layer.get(name) is not None]
            if isinstance(value, Settings):
                value = value.with_defaults(*found)
            elif value is None and found:
                value = found[0]
            values[name] = value
        return type(self).of(**values)

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON, by the names of ``of``."""
        return {name: to_json(value) for name, value in self.items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Make settings from the result of ``to_json``; unknown names are ignored.

        Raises:
            ValueError: A value is wrong or missing.
        """
        return cls._read(saved)

    @classmethod
    def _read(cls, saved: Mapping[str, Any], prefix: str = "") -> Self:
        """``from_json`` of a group, whose settings have a prefix in messages."""
        values: dict[str, Any] = {}
        for name, hint in _hints(cls).items():
            group, flat = _group(hint)
            if group is not None and flat:
                values[name] = group._read(saved, prefix)
            elif name in saved and group is not None and isinstance(saved[name], Mapping):
                values[name] = group._read(saved[name], f"{prefix}{name}.")
            elif name in saved:
                values[name] = checked(prefix + name, saved[name], hint)
        missing = [name for name in _without_default(cls) if name not in values]
        if missing:
            raise ValueError(f"{cls.__name__} needs the setting {prefix + missing[0]!r}; give it")
        return cls(**values)


@dataclass(frozen=True)
class Setting:
    """A field of settings or of one of their groups.

    Attributes:
        name: Its name, behind those of groups that are not flat: ``stage1.epochs``.
        hint: Its annotation.
        default: Its default; None if it has none.
        required: Whether it has no default.
        owner: The class that it is a field of.
    """

    name: str
    hint: Any
    default: Any
    required: bool
    owner: type[Settings]

    @property
    def positional(self) -> bool:
        """Whether the command line gives it without its name."""
        return "positional" in getattr(self.hint, "__metadata__", ())

    @property
    def form(self) -> tuple[Any, int | str | None]:
        """The type of a value (a class, or a literal), and how many there are: None is one."""
        return _form(self.hint)


def all_settings(kind: type[Settings], prefix: str = "") -> Iterator[Setting]:
    """The fields of a class and of its groups, in order."""
    fields = {each.name: each for each in dataclasses.fields(typing.cast("Any", kind))}
    required = set(_without_default(kind))
    for name, hint in _hints(kind).items():
        group, flat = _group(hint)
        if group is not None:
            yield from all_settings(group, prefix if flat else f"{prefix}{name}.")
        else:
            field = fields[name]
            default = None if name in required else field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            yield Setting(prefix + name, hint, default, name in required, kind)


def from_text(value: Any, hint: Any) -> Any:
    """Convert text, or a list of texts, to the type of an annotation where it can be read as such.

    Anything else is returned as it is; ``checked`` says what is wrong with it.
    """
    if isinstance(value, list):
        return [from_text(each, hint) for each in value]
    kind, _ = _form(hint)
    if not isinstance(value, str):
        return value
    if _origin(kind) is Literal:
        return next((each for each in typing.get_args(kind) if str(each) == value), value)
    with contextlib.suppress(ValueError):
        return kind(value) if kind in (int, float) else value
    return value


def _form(hint: Any) -> tuple[Any, int | str | None]:
    """See ``Setting.form``."""
    origin, arguments = _origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _form(arguments[0])
    if origin in (typing.Union, types.UnionType):
        kinds = [each for each in arguments if each is not type(None)]
        return _form(kinds[0]) if len(kinds) == 1 else (str, None)
    if origin in _SEQUENCES:
        return _form(arguments[0])[0], "*" if _any_length(hint) else len(arguments)
    return hint, None


def to_json(value: Any) -> Any:
    """Convert a value to JSON; dataclasses become mappings, without fields that are None."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {name: to_json(item) for name, item in fields.items() if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _find_hints(kind: Any) -> dict[str, Any]:
    """The annotation of every field of a class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


_hints: Callable[[Any], Mapping[str, Any]] = functools.cache(_find_hints)


def _without_default(kind: Any) -> Iterator[str]:
    """The fields of a class that have no default."""
    for each in dataclasses.fields(kind):
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            yield each.name


def _group(hint: Any) -> tuple[type[Settings] | None, bool]:
    """The class of a field that is a group of settings, and whether the group has no prefix."""
    kind, *metadata = typing.get_args(hint) if _origin(hint) is Annotated else (hint,)
    is_group = isinstance(kind, type) and issubclass(kind, Settings)
    return kind if is_group else None, "flat" in metadata


def _check_names(kind: type[Settings], values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ``ValueError`` if a value, or one of a group's values, has an unknown name."""
    known = dict(_flat_names(kind))
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"there is no setting {prefix + name!r}; {hint}known: {', '.join(known)}"
            )
        group = known[name]
        if group is not None and isinstance(value, Mapping):
            _check_names(group, value, f"{prefix}{name}.")


def _flat_names(kind: type[Settings]) -> Iterator[tuple[str, type[Settings] | None]]:
    """The names of a class's settings, and the classes of those that are groups with a prefix."""
    for name, hint in _hints(kind).items():
        group, flat = _group(hint)
        if group is not None and flat:
            yield from _flat_names(group)
        else:
            yield name, group


def checked(name: str, value: Any, hint: Any) -> Any:
    """Check a value and convert it to the type of its annotation.

    Args:
        name: Name of the value, for messages.
        value: The value. An int is converted to a float, text to a path, a list to a tuple, and a
            number of numpy's to one of Python's.
        hint: bool, int, float, str, a path, a literal, a sequence or mapping of these, a union, a
            class, or one of these with limits (``Annotated``).

    Raises:
        ValueError: The value has another type, is out of range, or is not finite.
    """
    origin, arguments = _origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = checked(name, value, arguments[0])
        for limit in arguments[1:]:
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(limit, Limit) and each is not None and not limit.holds(each):
                    raise ValueError(f"{name} must be {limit.wanted}, not {each}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _checked_union(name, value, arguments)
    if hint is Path and isinstance(value, str | Path):
        return user_path(value)
    if not _is(value, hint):
        raise ValueError(f"{name} must be {_name(hint)}, not {value!r}")
    if hint is int and not -(2**63) <= value < 2**63:
        # Arrays and tensors hold no others.
        raise ValueError(f"{name} must be a whole number of 64 bits, not {value}")
    if origin in _SEQUENCES:
        items = arguments[:1] * len(value) if _any_length(hint) else arguments
        return tuple(checked(name, *each) for each in zip(value, items, strict=True))
    return hint(value) if hint in (int, float) else value


def _checked_union(name: str, value: Any, members: tuple[Any, ...]) -> Any:
    if value is None and type(None) in members:
        return None
    kinds = [member for member in members if member is not type(None)]
    if len(kinds) == 1:
        return checked(name, value, kinds[0])
    for kind in kinds:
        with contextlib.suppress(ValueError):
            return checked(name, value, kind)
    raise ValueError(f"{name} must be {' or '.join(map(_name, kinds))}, not {value!r}")


def _is(value: Any, kind: Any) -> bool:
    origin = _origin(kind)
    if kind is Any:
        return True
    if origin is Literal:
        # An array would compare its items.
        known = [each for each in typing.get_args(kind) if isinstance(value, type(each))]
        return value in known
    if origin in _SEQUENCES:
        fits = isinstance(value, tuple | list)
        return fits and (_any_length(kind) or len(value) == len(typing.get_args(kind)))
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, numbers.Real) and _is_finite(value)
    return isinstance(value, numbers.Integral if kind is int else origin or kind)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # An int beyond all floats.
        return False


def _name(kind: Any) -> str:
    arguments = typing.get_args(kind)
    if _origin(kind) is Annotated:
        return _name(arguments[0])
    if _origin(kind) is Literal:
        return " or ".join(map(str, arguments))
    if _origin(kind) in _SEQUENCES:
        count = "several" if _any_length(kind) else len(arguments)
        return f"{count} values, each {_name(arguments[0])}"
    names = {int: "a whole number", float: "a finite number", str: "text", Path: "a path"}
    return names.get(kind, str(getattr(kind, "__name__", kind)))


def _any_length(hint: Any) -> bool:
    return _origin(hint) is not tuple or typing.get_args(hint)[-1] is ...


_SEQUENCES = (tuple, list, Sequence)
_origin = typing.get_origin
