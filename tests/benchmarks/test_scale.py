import json
import sys

import pytest

from gfnet_env.benchmarks import scale
from gfnet_env.benchmarks.scale import Scale, ScaleConfig, Taken, measure_scale

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="peak memory is measured on Linux only"
)


def test_every_number_is_measured_in_a_process_of_its_own(tmp_path, capsys):
    out = tmp_path / "scale.json"
    config = ScaleConfig(pictures=(20,), envs=(), sides=(), classes=(), out=out)
    results = measure_scale(config)
    assert Scale.from_json(json.loads(out.read_text())) == results
    assert list(results.taken) == ["pictures"]
    assert "folder" in results.taken["pictures"]
    assert "pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("quantity", "part"),
    [
        ("pictures", "glances, uncertain"),
        ("envs", "glances"),
        ("sides", "glances"),
        ("classes", "network"),
    ],
)
def test_every_quantity_has_its_parts(quantity, part):
    taken = scale._work(quantity, 64)
    assert part in taken
    assert all(seconds > 0 and mib >= 0 for seconds, mib in taken.values())


def test_growth_is_what_each_one_more_takes():
    by_number = {"10": Taken(1.0, 1.0), "20": Taken(3.0, 2.0)}
    (_, _, first), (number, _, growth) = scale._with_growth(by_number)
    assert first == ("", "")
    assert number == 20
    assert growth == ("2e+05", f"{2**20 / 10:.3g}")


def test_a_number_that_cannot_be_measured_is_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ValueError, match=r"envs 64 cannot be measured \(.*\); leave it out"):
        measure_scale(ScaleConfig(pictures=(), envs=(64,), sides=(), classes=()))


@pytest.mark.parametrize("sizes", [(2, 1), (1, 1), (0,)])
def test_wrong_numbers_are_refused(sizes):
    with pytest.raises(ValueError, match="envs must be (at least|numbers in ascending)"):
        ScaleConfig(envs=sizes)
