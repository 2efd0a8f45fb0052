"""No input ends in an error that names nothing, and the harness would notice one that does."""

import json
import re
from random import Random

import pytest

from gfnet_env.images import load_picture
from tests.fuzz import __main__ as command
from tests.fuzz.core import Input, RefusedError, Report, fuzz, judge, shares
from tests.fuzz.settings import _words
from tests.fuzz.targets import TARGETS

INPUTS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_used_or_refused_by_name(name):
    report = fuzz({name: shares(INPUTS)[name]}, seed=0)
    assert not report.findings
    # Neither is all refused, nor is all taken.
    assert report.outcomes[name]["right"] > 0
    assert report.outcomes[name]["ours"] > 0 or name == "Exif data"


def test_all_inputs_are_shared_out():
    for inputs in (1, 7, INPUTS, 100_000):
        assert sum(map(len, shares(inputs).values())) == inputs


@pytest.mark.parametrize("name", TARGETS)
def test_a_number_means_the_same_input_every_time(name, tmp_path):
    shown = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        given = repr(TARGETS[name].draw(Random(f"0/{name}/1"), folder).shown)
        # Paths and addresses are not part of the input.
        shown.append(re.sub("0x[0-9a-f]+", "", given.replace(str(folder), "")))
    assert shown[0] == shown[1]


def _fail():
    assert not 1


def _refuse():
    raise RefusedError


@pytest.mark.parametrize(
    ("use", "names", "outcome"),
    [
        (int, (), "right"),
        (_refuse, (), "ours"),
        (lambda: load_picture("x", fit="y"), ["'y'"], "ours"),
        (lambda: load_picture("x", fit="y"), ["'z'"], "others"),
        # Python raises it, in a line of the library.
        (lambda: load_picture("x"), ["is_file"], "others"),
        (lambda: int("x"), ["x"], "others"),
        (lambda: exit(1), (), "others"),
        (_fail, (), "wrong"),
    ],
)
def test_only_errors_of_ours_that_name_the_input_are_right(use, names, outcome):
    assert judge(Input(None, use, names))[0] == outcome


def test_findings_are_counted_by_kind():
    report = Report()
    for number in range(3):
        report.add("numbers", number, Input(number, lambda: int("x")))
    report.add("numbers", 3, Input(3, _fail))
    report.merge(report)
    assert report.to_json()["outcomes"]["all"] == {
        "inputs": 8,
        "right": 0,
        "errors_of_ours": 0,
        "errors_of_others": 6,
        "wrong": 2,
    }
    others, wrong = report.findings.values()
    assert (others["count"], others["number"], others["outcome"]) == (6, 0, "others")
    assert (wrong["count"], wrong["number"], wrong["outcome"]) == (2, 3, "wrong")


def test_the_command_writes_what_came_of_the_inputs(tmp_path, capsys):
    config = command.FuzzConfig(inputs=30, only="settings", first=10, out=tmp_path / "out.json")
    report = command.main(config)
    saved = json.loads(config.out.read_text())
    assert saved["outcomes"]["settings"]["inputs"] == 30
    assert saved["findings"] == list(report.findings.values()) == []
    assert "errors of others" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown kind 'x'; known: actions, resets"):
        command.main(command.FuzzConfig(only="x"))


def test_an_error_may_name_a_short_key_by_quoting_it():
    assert "','" in set(_words({",": 1}))
