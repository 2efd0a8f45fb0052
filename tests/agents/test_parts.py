import json

import pytest

from gfnet_agents.parts import run_parts


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
    assert lines[-1].startswith("Seeds 0, 3, 4; ")
    with pytest.raises(ValueError, match="a wrong part"):
        run_parts(tmp_path, dict([part("wrong")]), (0,), report)
    assert json.loads((tmp_path / "results.json").read_text()) == results
