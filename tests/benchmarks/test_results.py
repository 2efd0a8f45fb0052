import re

import pytest

from gfnet_env.benchmarks.results import Memory
from gfnet_env.files import write_json

ROW = {"resolution": 64, "image": 0.5, "gfnet": {"idle": 100.0, "peak": 120.0}}


def saved(**changes):
    return {"rows": [{**ROW, **changes}], "provenance": {"python": "3"}}


def test_results_come_back_as_they_were(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, saved(static={"error": "no memory"}))
    assert Memory.read(path).to_json() == saved(static={"error": "no memory"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "missing 2 required"),
        (saved() | {"rows": "abc"}, "rows must be list, not 'abc'"),
        (saved() | {"rows": [5]}, "MemoryRow must be dict, not 5"),
        (saved() | {"provenance": []}, "provenance must be dict, not []"),
        (saved(resolution="64"), "resolution must be a whole number, not '64'"),
        (saved(gfnet={"peak": "x"}), "peak must be a finite number, not 'x'"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, content, message):
    path = tmp_path / "results.json"
    write_json(path, content)
    said = f"{path} is damaged or of another version: "
    with pytest.raises(
        ValueError, match=f"{re.escape(said)}.*{re.escape(message)}.*; make it anew"
    ):
        Memory.read(path)
