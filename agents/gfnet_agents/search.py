"""What tuning searches: settings and their values, ``learning_rate=1e-4..1e-2``."""

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gfnet_env.registry import convert
from gfnet_env.settings import checked

if TYPE_CHECKING:
    from optuna import Trial

# Where to search, unless the user says where; of these a learner takes some.
POLICY_SEARCH = {
    "learning_rate": "1e-4..1e-2",
    "batch_size": "[64,128,256,512]",
    "n_steps": "[3,6,12,24]",
    "n_epochs": "[1,2,4]",
    "clip_range": "[0.1,0.2,0.3]",
    "gradient_steps": "[2,4,8,16]",
    "tau": "1e-3..1e-1",
    "policy_delay": "[1,2,4]",
    "delta_std": "0.02..0.5",
}
CLASSIFIER_SEARCH = {
    "learning_rate": "3e-4..1e-2",
    "weight_decay": "1e-5..1e-1",
    "batch_size": "[32,64,128]",
    "label_smoothing": "[0.0,0.05,0.1]",
}
# A range that spans this factor is searched by its logarithm.
_WIDE = 10


@dataclass(frozen=True)
class Range:
    """All numbers between two, both included; over a wide range evenly by their logarithm.

    Attributes:
        low: The first.
        high: The last.
        whole: Whether only whole numbers belong to it.
    """

    low: float
    high: float
    whole: bool = False

    @property
    def ends(self) -> Sequence[float]:
        """The first and the last value."""
        return self.low, self.high

    def suggest(self, trial: "Trial", name: str) -> float:
        """A value for a trial."""
        is_wide = self.low > 0 and self.high / self.low >= _WIDE
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=is_wide)
        return trial.suggest_float(name, self.low, self.high, log=is_wide)

    def read(self, noted: float) -> float:
        """The value that a study noted."""
        return noted


@dataclass(frozen=True)
class Choice:
    """Some values. A study notes them as JSON, since it takes no lists."""

    values: Sequence[Any]

    @property
    def ends(self) -> Sequence[Any]:
        """The first and the last value."""
        return self.values[0], self.values[-1]

    def suggest(self, trial: "Trial", name: str) -> Any:
        """A value for a trial."""
        return self.read(
            trial.suggest_categorical(name, [json.dumps(each) for each in self.values])
        )

    def read(self, noted: str) -> Any:
        """The value that a study noted."""
        return json.loads(noted)


Space = Mapping[str, Range | Choice]


def parse_search(
    given: Sequence[str], known: Mapping[str, Any], defaults: Mapping[str, str]
) -> Space:
    """The values to search of each setting.

    Args:
        given: ``NAME=LOW..HIGH`` or ``NAME=[VALUE,…]``; if there is none, the ``defaults`` that are
            ``known``.
        known: Settings that can be searched, and their annotations.
        defaults: Values by setting.

    Raises:
        ValueError: A setting is unknown or given twice, or its values are wrong.
    """
    listed = ", ".join(sorted(known))
    given = given or [f"{name}={text}" for name, text in defaults.items() if name in known]
    if not given:
        raise ValueError(f"say what to search, --search NAME=LOW..HIGH; known: {listed}")
    space: dict[str, Range | Choice] = {}
    for each in given:
        name, _, text = each.partition("=")
        if name not in known:
            raise ValueError(f"there is no setting {name!r} to search; known: {listed}")
        if name in space:
            raise ValueError(f"search is given {name} twice")
        annotation = Any if known[name] is inspect.Parameter.empty else known[name]
        space[name] = _values(name, text, annotation)
    return space


def _values(name: str, text: str, annotation: Any) -> Range | Choice:
    if match := re.fullmatch(r"(.+)\.\.(.+)", text):
        low, high = (convert(end, annotation, name) for end in match.groups())
        numbers = all(isinstance(end, int | float) for end in (low, high))
        if not (numbers and -math.inf < low < high < math.inf):
            raise ValueError(f"the range of {name} must be two numbers that rise, not {text}")
        return Range(low, high, whole=not _takes_fractions(name, low, high, annotation))
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"search of {name} must be LOW..HIGH or [VALUE,…], not {text!r}")
    try:
        values = [checked(name, value, annotation) for value in json.loads(text)]
    except json.JSONDecodeError:
        # Words need no quotation marks.
        values = [convert(word, annotation, name) for word in text[1:-1].split(",")]
    if not values:
        raise ValueError(f"search of {name} has no value")
    return Choice(values)


def _takes_fractions(name: str, low: float, high: float, annotation: Any) -> bool:
    """Whether a setting may lie between two whole numbers."""
    try:
        checked(name, low + (high - low) / math.e, annotation)
    except ValueError:
        return False
    return True
