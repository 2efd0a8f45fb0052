import json

import numpy as np
import pytest

from gfnet_agents.parts import PhotographOptions, run_parts


def test_each_part_is_run_once_for_each_seed(tmp_path):
    ran = []

    def part(name):
        def run(seed):
            ran.append((name, seed))
            if name == "wrong":
                raise ValueError("a wrong part")
            return {"accuracy": 0.5 + seed}

        return name, run

    def report(results):
        return [f"{name}: {len(runs)}" for name, runs in results.items()]

    parts = dict(map(part, ("one", "two")))
    run_parts(tmp_path, parts, (0, 3), report)
    assert ran == [("one", 0), ("two", 0), ("one", 3), ("two", 3)]
    results = run_parts(tmp_path, parts, (3, 4), report)
    assert ran[4:] == [("one", 4), ("two", 4)]
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["one"]["3"]["accuracy"] == 3.5
    assert {"seconds", "commit", "versions"} < results["one"]["3"].keys()
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[:2] == ["one: 3", "two: 3"]
    assert lines[-1].startswith("Seeds 0, 3, 4; 0, 0, 0 minutes; ")
    with pytest.raises(ValueError, match="a wrong part"):
        run_parts(tmp_path, dict([part("wrong")]), (0,), report)
    assert json.loads((tmp_path / "results.json").read_text()) == results


@pytest.mark.parametrize(
    "content", ['{"a": [1]}', '{"a": {"x": {}}}', '{"a": {"0": {}}}', '{"a": {"0": 1}}']
)
def test_results_of_something_else_are_not_taken_for_those_of_parts(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match="results.json holds something else than results of parts"):
        run_parts(tmp_path, {}, (0,), lambda results: [])


@pytest.mark.parametrize("found", [np.float32(1), float("nan")])
def test_results_that_json_cannot_hold_are_named(tmp_path, found):
    with pytest.raises(ValueError, match="the results of the part 'one' cannot be written"):
        run_parts(tmp_path, {"one": lambda seed: {"found": found}}, (0,), lambda results: [])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write .*file"):
        run_parts(tmp_path / "file", {"one": None}, (0,), lambda results: [])


@pytest.mark.parametrize("name", ["seeds", "parts"])
def test_there_is_something_to_run(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is empty, so there is nothing to run"):
        PhotographOptions.of(run=tmp_path, out=tmp_path, images=tmp_path, **{name: ()})
