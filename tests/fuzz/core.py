"""Draw inputs by number, use them, and judge what comes of it.

A target draws an input and says how to use it. The outcome is ``right`` if the use ends, having
asserted whatever makes an answer right; ``ours`` if it ends in an error that the library raises
itself and that names the value or the file; and otherwise a finding: ``wrong`` if an assertion
failed, ``others`` for an error of anything else, or if no end was in sight.
"""

import contextlib
import dis
import inspect
import itertools
import os
import shutil
import signal
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Literal

# Optimisers import it; where time or memory runs out in the midst of that, it stays broken.
import torch._dynamo  # noqa: F401
from PIL import Image

import gfnet_agents
import gfnet_env

Outcome = Literal["right", "ours", "others", "wrong"]

# What a caller may have to catch; a KeyError names nothing.
ERRORS = (ValueError, TypeError, IndexError, OSError, RuntimeError)
# Any input takes milliseconds.
_SECONDS = 60
# Damaged headers announce large pictures.
_PIXELS = 2**20
_LIBRARY = tuple(str(Path(inspect.getfile(each)).parent) for each in (gfnet_env, gfnet_agents))
_HERE = str(Path(__file__).parent)
_RAISE = dis.opmap["RAISE_VARARGS"]


class RefusedError(Exception):
    """The library refused an input by other means than an exception, and named it."""


class _HangError(BaseException):
    """An input took too long."""


@dataclass(frozen=True)
class Input:
    """An input and its use.

    Attributes:
        shown: The input, for findings.
        use: Uses it; asserts that the answer is right.
        names: An error must name one of these.
        errors: The errors that may refuse it.
    """

    shown: object
    use: Callable[[], object]
    names: Collection[str] = ()
    errors: tuple[type[Exception], ...] = ERRORS


Draw = Callable[[Random, Path], Input]


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        draw: Draws an input; it may write into the folder, which is empty.
        share: Its share of all inputs, relative to the others'.
    """

    draw: Draw
    share: int


TARGETS: dict[str, Target] = {}


def target(name: str, share: int) -> Callable[[Draw], Draw]:
    """Return a decorator that adds a target."""

    def add(draw: Draw) -> Draw:
        TARGETS[name] = Target(draw, share)
        return draw

    return add


@dataclass
class Report:
    """What came of some inputs, by target.

    Attributes:
        outcomes: The number of each outcome.
        findings: One example of each kind of finding, and how many there were.
    """

    outcomes: dict[str, Counter[Outcome]] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, number: int, given: Input) -> None:
        """Use an input, and count what comes of it."""
        outcome, place, error = judge(given)
        self.outcomes.setdefault(name, Counter())[outcome] += 1
        if error is None:
            return
        example = {
            "target": name,
            "number": number,
            "outcome": outcome,
            "input": _short(given.shown),
            "error": f"{type(error).__name__}: {_short(error)}",
            "at": place,
            "count": 0,
        }
        key = f"{name} {outcome} {type(error).__name__} {place}"
        self.findings.setdefault(key, example)["count"] += 1

    def merge(self, other: "Report") -> None:
        """Add what another report has counted."""
        for name, counted in other.outcomes.items():
            self.outcomes.setdefault(name, Counter()).update(counted)
        for key, finding in other.findings.items():
            if key in self.findings:
                self.findings[key]["count"] += finding["count"]
            else:
                self.findings[key] = finding

    def rows(self) -> Iterator[tuple[str, int, int, int, int, int]]:
        """Name, inputs, and the number of each outcome, of every target and of all."""
        total: Counter[Outcome] = Counter()
        for name, counted in self.outcomes.items():
            total += counted
            yield _row(name, counted)
        yield _row("all", total)

    def to_json(self) -> dict[str, Any]:
        """The rows by name, and the findings."""
        columns = ("inputs", "right", "errors_of_ours", "errors_of_others", "wrong")
        return {
            "outcomes": {
                name: dict(zip(columns, counts, strict=True)) for name, *counts in self.rows()
            },
            "findings": list(self.findings.values()),
        }


def _row(name: str, counted: Mapping[Outcome, int]) -> tuple[str, int, int, int, int, int]:
    right, ours, others, wrong = (
        counted.get(outcome, 0) for outcome in ("right", "ours", "others", "wrong")
    )
    return name, right + ours + others + wrong, right, ours, others, wrong


def fuzz(numbers: Mapping[str, range], seed: int) -> Report:
    """Use the inputs of some numbers of each target; a number always means the same input."""
    report = Report()
    with _limits(), tempfile.TemporaryDirectory(prefix="fuzz-") as parent:
        folder = Path(parent, "input")
        for name, chosen in numbers.items():
            for number in chosen:
                folder.mkdir()
                # Relative paths lead nowhere else.
                with contextlib.chdir(folder):
                    given = TARGETS[name].draw(Random(f"{seed}/{name}/{number}"), folder)
                    report.add(name, number, given)
                shutil.rmtree(folder)
    return report


def shares(inputs: int) -> dict[str, range]:
    """How many inputs of all targets fall to each."""
    total = sum(each.share for each in TARGETS.values())
    ends = itertools.accumulate((each.share for each in TARGETS.values()), initial=0)
    counts = (
        inputs * end // total - inputs * start // total for start, end in itertools.pairwise(ends)
    )
    return {name: range(count) for name, count in zip(TARGETS, counts, strict=True)}


def judge(given: Input) -> tuple[Outcome, str, BaseException | None]:
    """The outcome of an input; of a finding, also where its error was raised, and the error."""
    try:
        with _deadline():
            given.use()
    except RefusedError:
        return "ours", "", None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        last = _innermost(error)
        place = _place(error)
        if isinstance(error, AssertionError) and last.tb_frame.f_code.co_filename.startswith(_HERE):
            return "wrong", place, error
        named = not given.names or any(name in str(error) for name in given.names)
        if isinstance(error, given.errors) and _is_raised_by_us(last) and named:
            return "ours", "", None
        return "others", place, error
    return "right", "", None


def _innermost(error: BaseException) -> TracebackType:
    last = error.__traceback__
    assert last is not None
    while last.tb_next is not None:
        last = last.tb_next
    return last


def _is_raised_by_us(last: TracebackType) -> bool:
    """Whether a ``raise`` of the library raised it, and not a call that the library makes."""
    code = last.tb_frame.f_code
    return code.co_filename.startswith(_LIBRARY) and code.co_code[last.tb_lasti] == _RAISE


def _place(error: BaseException) -> str:
    """Where an error was raised, and the innermost line of ours on the way there."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith((*_LIBRARY, _HERE))]
    shown = (f"{Path(each.filename).name}:{each.lineno}" for each in (*ours[-1:], frames[-1]))
    return " > ".join(dict.fromkeys(shown))


def _short(value: object, length: int = 400) -> str:
    shown = value if isinstance(value, str) else f"{value}"
    return ascii(shown)[1:-1][:length]


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    """Raise an error in code that does not come to an end, where signals are."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise _HangError(f"not done after {_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Limit the size of pictures, take most warnings for errors, and show no one's."""
    most, errors = Image.MAX_IMAGE_PIXELS, os.dup(2)
    Image.MAX_IMAGE_PIXELS = _PIXELS
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
            # Decoders write to the descriptor itself.
            os.dup2(nowhere.fileno(), 2)
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = most
        os.dup2(errors, 2)
        os.close(errors)
