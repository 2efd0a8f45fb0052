"""Recipes in parts: each is run once for each seed, and its results are kept."""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gfnet_agents.markdown import signature
from gfnet_env.files import is_file, read_json, replacing, write_json, write_text
from gfnet_env.runs import provenance

# What each part does with a seed.
Parts = Mapping[str, Callable[[int], Mapping[str, Any]]]
# Results by part, then by seed.
Results = dict[str, dict[str, dict[str, Any]]]


def run_parts(
    out: Path,
    parts: Parts,
    seeds: Iterable[int],
    report: Callable[[Results], Iterable[str]],
) -> Results:
    """Run what ``out/results.json`` lacks, and write it and README.md after every part.

    Args:
        out: Folder of the tables.
        parts: Each maps a seed to its results, which JSON can hold; duration and provenance are
            added.
        seeds: Seeds to run each part with.
        report: The lines of README.md; a line about the origin of the results follows them.
    """
    path = out / "results.json"
    results: Results = read_json(path) if is_file(path) else {}
    for seed, (name, run) in itertools.product(seeds, parts.items()):
        done = results.setdefault(name, {})
        if str(seed) in done:
            continue
        started = time.monotonic()
        found = run(seed)
        seconds = time.monotonic() - started
        done[str(seed)] = {**found, "seconds": seconds, **provenance(command=False)}
        with replacing(out) as new:
            write_json(new / path.name, results)
            write_text(new / "README.md", "\n".join([*report(results), "", _origin(results)]))
    return results


def _origin(results: Results) -> str:
    made = [run for part in results.values() for run in part.values()]
    seeds = sorted({int(seed) for part in results.values() for seed in part})
    return signature(made, seeds, [run["seconds"] for run in made]) + "\n"
