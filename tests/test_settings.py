import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from gfnet_env.command_line import parse
from gfnet_env.settings import (
    UNSET,
    Above,
    AtLeast,
    AtMost,
    Below,
    Between,
    Flat,
    OrUnset,
    Seed,
    Settings,
    checked,
    to_json,
)


@dataclass(frozen=True, kw_only=True)
class Speed(Settings):
    epochs: OrUnset[Annotated[int, AtLeast(1)]] = UNSET
    """How long."""
    rate: OrUnset[Annotated[float, Above(0)]] = UNSET
    """How fast."""


@dataclass(frozen=True, kw_only=True)
class Job(Settings):
    run: Path
    speed: Flat[Speed] = field(default_factory=Speed)
    later: Speed = field(default_factory=Speed)
    mode: Literal["a", "b"] = "a"
    sides: Annotated[tuple[int, ...], AtLeast(1)] = ()
    pair: tuple[float, float] | None = None
    share: Annotated[float, AtLeast(0), Below(1)] = 0.0
    other: Annotated[float, Between(0, 1)] = 0.0
    small: Annotated[int, AtMost(10)] = 1
    flag: bool = False
    anything: dict[str, Any] | None = None


def test_values_take_the_form_of_their_field():
    job = Job(run="~/runs/a", sides=[2, 3], pair=[1, 2], share=0)
    assert job.run == Path.home() / "runs" / "a"
    assert (job.sides, job.pair) == ((2, 3), (1.0, 2.0))
    assert isinstance(job.share, float)
    assert Job(run="r", sides=[np.int32(2)], share=np.float32(0.5)) == Job(
        run="r", sides=(2,), share=0.5
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "c"}, "mode must be a or b, not 'c'"),
        ({"sides": (2, 0)}, "sides must be at least 1, not 0"),
        ({"sides": (2, "x")}, "sides must be a whole number, not 'x'"),
        ({"sides": 2}, "sides must be several values, each a whole number, not 2"),
        ({"pair": (1, 2, 3)}, "pair must be 2 values, each a finite number"),
        ({"share": 1.0}, "share must be below 1, not 1"),
        ({"share": -0.1}, "share must be at least 0"),
        ({"other": 1.5}, r"other must be in \[0, 1\], not 1.5"),
        ({"other": math.inf}, "other must be a finite number, not inf"),
        ({"other": math.nan}, "other must be a finite number, not nan"),
        ({"other": True}, "other must be a finite number, not True"),
        ({"flag": 1}, "flag must be bool, not 1"),
        ({"run": None}, "run must be a path, not None"),
        ({"later": None}, "later must be Speed, not None"),
        ({"anything": 1}, "anything must be dict"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 1.0}, "epochs must be a whole number, not 1.0"),
        ({"rate": 0}, "rate must be positive, not 0"),
        ({"later": {"epochs": -1}}, r"^later\.epochs must be at least 1, not -1"),
        ({"later": {"rate": math.inf}}, r"^later\.rate must be a finite number, not inf"),
        ({"mode": np.array(["a", "b"])}, "mode must be a or b, not array"),
        ({"mode": ["a"]}, "mode must be a or b, not"),
        ({"other": 10**400}, "other must be a finite number, not 1000"),
        ({"epochs": 2**63}, "epochs must be a whole number of 64 bits, not 9223372036854775808"),
        ({"sides": (2, -(10**400))}, "sides must be a whole number of 64 bits, not -1000"),
        ({"small": 11}, "small must be at most 10, not 11"),
        ({"cls": 1}, "no setting 'cls'"),
    ],
)
def test_every_field_is_checked(values, message):
    with pytest.raises(ValueError, match=message):
        Job.of(**{"run": "r"} | values)


def test_a_setting_that_must_be_given_is_named():
    with pytest.raises(ValueError, match="Job needs the setting 'run'; give it"):
        Job.of(epochs=2)


def test_a_seed_is_one_that_all_generators_take():
    random.seed(checked("seed", 2**32 - 1, Seed))
    np.random.RandomState(checked("seed", 2**32 - 1, Seed))
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match=f"seed must be at .*, not {wrong}"):
            checked("seed", wrong, Seed)


def test_names_of_flat_groups_have_no_prefix():
    job = Job.of(run="r", epochs=2, later=Speed(epochs=3))
    assert job == Job(run=Path("r"), speed=Speed(epochs=2), later=Speed(epochs=3))
    assert job.replace(rate=0.5).speed == Speed(epochs=2, rate=0.5)
    with pytest.raises(ValueError, match="no setting 'epoch'; did you mean 'epochs'"):
        Job.of(run="r", epoch=2)
    with pytest.raises(ValueError, match="no setting 'speed'"):
        job.replace(speed=Speed())


def test_what_was_not_given_is_filled_in_by_layers():
    job = Job.of(run="r", epochs=2, later=Speed(rate=0.1))
    assert job.given().items() >= {"epochs": 2, "later": {"rate": 0.1}}.items()
    assert "rate" not in job.given()
    first, second = (
        {"epochs": 5, "rate": 0.2, "later": {"epochs": 7}},
        {"rate": 0.9, "pair": [1, 1]},
    )
    filled = job.with_defaults(first, second, {"unknown": 1})
    assert filled.speed == Speed(epochs=2, rate=0.2)
    assert filled.later == Speed(epochs=7, rate=0.1)
    assert filled.pair == (1, 1)
    assert Speed().with_defaults(Speed(epochs=4).given()) == Speed(epochs=4)


def test_settings_go_through_json():
    job = Job.of(
        run="r", epochs=2, later=Speed(rate=0.1), sides=(1, 2), anything={"path": Path("p")}
    )
    saved = job.to_json()
    assert saved["epochs"] == 2
    assert saved["later"] == {"epochs": None, "rate": 0.1}
    assert saved["sides"] == [1, 2]
    assert saved["anything"] == {"path": "p"}
    assert "speed" not in saved
    again = Job.from_json(saved | {"of_an_older_version": 1})
    assert again == job.replace(anything={"path": "p"})
    assert to_json([job.run, (1,)]) == ["r", [1]]


def test_the_command_line_shows_them_without_prefixes():
    words = ["--run", "r", "--epochs", "3", "--later.rate", "0.5", "--sides", "4", "5", "--flag"]
    job = parse(Job, None, words)
    assert job == Job.of(run="r", epochs=3, later=Speed(rate=0.5), sides=(4, 5), flag=True)
