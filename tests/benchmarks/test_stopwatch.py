import pytest

from gfnet_env.benchmarks import stopwatch
from gfnet_env.benchmarks.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def pass_seconds(seconds):
        now[0] += seconds

    return pass_seconds


def test_an_inner_label_stops_the_outer(clock):
    watch = Stopwatch()
    clock(100)
    with watch.label("outer"):
        clock(1)
        with watch.label("inner"):
            clock(2)
            with watch.label("outer"):
                clock(4)
        clock(8)
    clock(100)
    assert watch.seconds == {"outer": 13, "inner": 2}
    assert watch.shares() == {"outer": 13 / 15, "inner": 2 / 15}


def test_methods_are_counted_until_the_context_ends(clock):
    class Worker:
        def work(self, seconds, *, fail=False):
            clock(seconds)
            if fail:
                raise RuntimeError("tired")
            return 2 * seconds

    watch, worker = Stopwatch(), Worker()
    with watch.wrap(worker, "work", "work"):
        assert worker.work(3) == 6
        with pytest.raises(RuntimeError, match="tired"):
            worker.work(1, fail=True)
    worker.work(5)
    assert watch.seconds == {"work": 4}
    assert not vars(worker)
