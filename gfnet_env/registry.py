"""One way to swap parts: by a registered name, as ``module:NAME``, or as an object.

A *spec* names a part and its parameters: ``NAME``, ``NAME:key=value,…``, ``module:NAME`` or
``module:NAME:key=value,…``. Each kind of part has one ``Registry``; a part registers itself where
it is defined.
"""

import difflib
import importlib
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gfnet_env.contracts import NotImportedError
from gfnet_env.settings import checked

# What Python and torch raise for a value that they cannot use; they do not know its name.
UNFIT = (ArithmeticError, AssertionError, MemoryError, RuntimeError, TypeError)

# What files may name as ``module:NAME``: all of these modules, and these parts of others. That a
# module is imported says nothing: os and subprocess always are.
_MODULES_FOR_FILES: set[str] = set()
_PARTS_FOR_FILES: set[tuple[str, str]] = set()

_MEMBER = r"[A-Za-z_]\w*"
_NAMED = re.compile(rf"{_MEMBER}=")

Part = TypeVar("Part")
Target = TypeVar("Target", bound=Callable[..., Any])


class Registry(Generic[Part]):
    """The parts of one kind, by name.

    Args:
        kind: Kind of part, for messages: ``reward``, ``encoder``, …
        functions_are_parts: Whether a plain function is itself a part (a reward) instead of making
            one (an image set).
        context: Parameters that only the caller of ``build`` sets; a spec must not.
    """

    def __init__(
        self, kind: str, *, functions_are_parts: bool = False, context: Collection[str] = ()
    ) -> None:
        self.kind = kind
        self._context = frozenset(context)
        self._functions_are_parts = functions_are_parts
        self._targets: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Target], Target]:
        """Return a decorator that registers a class or a function under a name.

        Raises:
            ValueError: Another part has that name already.
        """

        def decorate(target: Target) -> Target:
            known = self._targets.get(name)
            if known is not None and _origin(known) != _origin(target):
                raise ValueError(f"the {self.kind} {name!r} exists already; choose another name")
            self._targets[name] = target
            return target

        return decorate

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def build(self, part: str | Part, *, trusted: bool = True, **context: Any) -> Part:
        """Build the part of a spec; an object is returned as it is.

        Args:
            part: A spec, or the part itself.
            trusted: Whether ``module:NAME`` may import and call anything. For a spec from a file
                this must be off: it may only name parts of modules that ``import_parts`` imported,
                and parts that a trusted spec has named in this process.
            context: Further arguments; arguments that the part does not take are dropped.

        Raises:
            TypeError: An object cannot be such a part.
            ValueError: The name is unknown, a parameter is unknown or has the wrong type, or the
                part refuses its value.
        """
        if not isinstance(part, str):
            if self._functions_are_parts and (not callable(part) or inspect.isclass(part)):
                raise TypeError(
                    f"the {self.kind} must be a spec, a function or an object to call, not {part!r}"
                )
            return part
        target, given = self._split(part, trusted=trusted)
        if self._functions_are_parts and inspect.isfunction(target):
            if given:
                raise ValueError(f"the {self.kind} {part!r} is a function and has no parameters")
            return typing.cast("Part", target)
        parameters = self._settable(target)
        values = self._parse(given, parameters, part)
        taken = {key: value for key, value in context.items() if _takes(target, key)}
        clash = sorted(values.keys() & taken.keys())
        if clash:
            raise ValueError(f"{clash[0]} of the {self.kind} {part!r} cannot be set in its spec")
        try:
            inspect.signature(target).bind(**values, **taken)
        except TypeError as error:
            raise ValueError(
                f"the {self.kind} {part!r} lacks a parameter: {error}; it has "
                f"{_described(parameters) or 'none'}"
            ) from error
        try:
            return target(**values, **taken)
        except UNFIT as error:
            if not values:
                raise
            raise ValueError(f"the {self.kind} {part!r} cannot be built: {error}") from error

    def check_for_files(self, spec: str) -> None:
        """Raise ``ValueError`` if a spec names a part that files may not name, see ``build``."""
        name, _, rest = spec.partition(":")
        member = rest.partition(":")[0]
        if name in self._targets or not re.fullmatch(_MEMBER, member):
            return
        allowed = name in _MODULES_FOR_FILES or (name, member) in _PARTS_FOR_FILES
        if not (allowed and name in sys.modules):
            raise NotImportedError(
                f"the {self.kind} {spec!r} is in the module {name!r}, which no file may import; if "
                f"you trust it, add --import {name} (in Python: "
                f"gfnet_env.registry.import_parts({name!r}))"
            )

    def find(self, part: str, *, trusted: bool = True) -> Callable[..., Any]:
        """The class or function that a spec names; raises like ``build``."""
        return self._split(part, trusted=trusted)[0]

    def parameters(self, part: str) -> dict[str, inspect.Parameter]:
        """The parameters that a spec of this part may set, by name."""
        return self._settable(self.find(part))

    def describe(self) -> str:
        """All names with their parameters and defaults, for help and messages."""
        return "; ".join(
            f"{name}{_described(self._settable(target))}" for name, target in self._targets.items()
        )

    def _settable(self, target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        if self._functions_are_parts and inspect.isfunction(target):
            return {}
        parameters = inspect.signature(target, eval_str=True).parameters.items()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {
            name: each
            for name, each in parameters
            if each.kind in named and name not in self._context
        }

    def _split(self, spec: str, *, trusted: bool) -> tuple[Callable[..., Any], str]:
        """The target of a spec, and the text of its parameters."""
        name, _, rest = spec.partition(":")
        if name in self._targets:
            return self._targets[name], rest
        member, _, given = rest.partition(":")
        if not (_is_module(name) and re.fullmatch(_MEMBER, member)):
            close = difflib.get_close_matches(name, self._targets, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"unknown {self.kind} {name or spec!r}; {hint}known: {self.describe()}; or give "
                "module:NAME of your own"
            )
        if not trusted:
            self.check_for_files(spec)
        try:
            found = getattr(importlib.import_module(name), member)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"there is no {self.kind} {spec!r} to import: {error}") from error
        if not callable(found):
            raise ValueError(f"{spec!r} is no {self.kind}: it is neither a class nor a function")
        if trusted:
            _PARTS_FOR_FILES.add((name, member))
        return found, given

    def _parse(
        self, text: str, parameters: Mapping[str, inspect.Parameter], spec: str
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for position, item in enumerate(split_items(text)):
            key, sign, value = item.partition("=")
            # A path may hold an equals sign.
            unnamed = key not in parameters and not (sign and key.isidentifier())
            if position == 0 and parameters and unnamed:
                # The name of the first parameter may be omitted: folder:PATH.
                key, sign, value = next(iter(parameters)), "=", item
            if key not in parameters or not sign:
                raise ValueError(
                    f"the {self.kind} {spec!r} has no parameter {key!r}; it has "
                    f"{_described(parameters) or 'none'}"
                )
            if key in values:
                raise ValueError(f"the {self.kind} {spec!r} is given {key} twice")
            values[key] = convert(value, parameters[key].annotation, f"{key} of {spec!r}")
        return values


def import_parts(module: str) -> None:
    """Import a module of your own, so that files which are loaded later may name parts in it.

    Raises:
        ImportError: There is no such module, or it cannot be imported.
    """
    if not _is_module(module):
        raise ImportError(f"no module can have the name {module!r}; give one such as my_parts")
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"cannot import {module!r}: {error}") from error
    _MODULES_FOR_FILES.add(module)


def imported_parts() -> list[str]:
    """The modules of a user's own that this process took parts from."""
    return sorted(_MODULES_FOR_FILES | {module for module, _ in _PARTS_FOR_FILES})


def _is_module(name: str) -> bool:
    """Whether a module could have this name, from anywhere."""
    return all(map(str.isidentifier, name.split(".")))


def split_items(text: str) -> list[str]:
    """Split ``a=1,b=[2,3]`` into ``a=1`` and ``b=[2,3]``.

    A comma separates two items if it is outside brackets and ``name=`` follows it.
    """
    items: list[str] = []
    depth = start = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and _NAMED.match(text, position + 1):
            items.append(text[start:position])
            start = position + 1
    return [*items, text[start:]] if text else []


def convert(text: str, annotation: Any, name: str) -> Any:
    """Convert the text of a parameter to its annotated type.

    Args:
        text: JSON, or plain text.
        annotation: See ``settings.checked``; if it is empty, JSON of any type.
        name: Name of the parameter, for messages.

    Raises:
        ValueError: The text is not a value of that type.
    """
    if annotation is inspect.Parameter.empty:
        annotation = Any
    problem = None
    for read in (_read_json, float, str):
        try:
            value = read(text)
        except (RecursionError, ValueError):
            continue
        try:
            return checked(name, value, annotation)
        except ValueError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _read_json(text: str) -> Any:
    return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))


def _origin(target: Callable[..., Any]) -> tuple[str, str]:
    """The file that defines a target, regardless of the module's name, and the target's name."""
    members = [target, *vars(target).values()] if inspect.isclass(target) else [target]
    files = (each.__code__.co_filename for each in members if inspect.isfunction(each))
    name = getattr(target, "__qualname__", repr(target))
    return next(files, getattr(target, "__module__", "")), name


def _takes(target: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(target).parameters.values()
    return any(
        each.name == name or each.kind == inspect.Parameter.VAR_KEYWORD for each in parameters
    )


def _described(parameters: Mapping[str, inspect.Parameter]) -> str:
    """``:cells=7``: names and defaults."""
    shown = [
        name if each.default is inspect.Parameter.empty else f"{name}={each.default}"
        for name, each in parameters.items()
    ]
    return f":{','.join(shown)}" if shown else ""
