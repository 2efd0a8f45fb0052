import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch

from gfnet_env import registry
from gfnet_env.actions import PeakActions, ZoomActions
from gfnet_env.classifiers import (
    AttentionClassifier,
    CascadeClassifier,
    EvidenceClassifier,
    RecurrentClassifier,
)
from gfnet_env.encoders import CompactEncoder
from gfnet_env.observations import MapsObservation, PeakObservation
from gfnet_env.policies import CenterPolicy, RandomPolicy
from gfnet_env.registry import Registry, convert, import_parts, split_items
from gfnet_env.rewards import RandomContrast
from gfnet_env.settings import AtLeast


class Grid:
    def __init__(self, cells: Annotated[int, AtLeast(1)] = 7, mode: Literal["a", "b"] = "a"):
        self.cells, self.mode = cells, mode


class Folder:
    def __init__(self, path: Path, *, fit: str | None = None, seed: int = 0):
        self.path, self.fit, self.seed = path, fit, seed


def plain(state: str) -> str:
    return state


@pytest.fixture
def parts():
    registry = Registry("part")
    registry.register("grid")(Grid)
    registry.register("folder")(Folder)
    return registry


@pytest.fixture
def module(monkeypatch):
    """A module of a user's own, imported already."""
    own = types.ModuleType("own_parts")
    own.Grid, own.number = Grid, 3
    monkeypatch.setitem(sys.modules, "own_parts", own)
    monkeypatch.setattr(registry, "_MODULES_FOR_FILES", set())
    return own


def test_parts_are_built_of_specs(parts):
    assert list(parts) == ["grid", "folder"]
    assert "grid" in parts
    assert "other" not in parts
    assert parts.build("grid").cells == 7
    grid = parts.build("grid:cells=9,mode=b")
    assert (grid.cells, grid.mode) == (9, "b")
    assert parts.find("grid:cells=9") is Grid
    assert list(parts.parameters("folder")) == ["path", "fit", "seed"]


def test_objects_are_returned_as_they_are(parts):
    grid = Grid()
    assert parts.build(grid) is grid


def test_the_first_parameter_may_leave_out_its_name(parts):
    assert parts.build("folder:/data/a=b,c/pictures").path == Path("/data/a=b,c/pictures")
    assert parts.build("folder:leaves, a=1").path == Path("leaves, a=1")
    folder = parts.build("folder:some/where,fit=whole,seed=3")
    assert (folder.path, folder.fit, folder.seed) == (Path("some/where"), "whole", 3)
    assert parts.build("grid:5").cells == 5


def test_context_is_given_to_those_that_take_it(parts):
    assert parts.build("folder:here", seed=4, other=1).seed == 4
    assert parts.build("grid", seed=4).cells == 7
    with pytest.raises(ValueError, match="seed of the part 'folder:here,seed=1' cannot be set"):
        parts.build("folder:here,seed=1", seed=4)


def test_no_spec_sets_what_builders_give():
    registry = Registry("part", context=["seed"])
    registry.register("folder")(Folder)
    assert registry.describe() == "folder:path,fit=None"
    assert registry.build("folder:here", seed=2).seed == 2
    with pytest.raises(ValueError, match=r"has no parameter 'seed'; it has :path,fit=None"):
        registry.build("folder:here,seed=1")


def test_parts_of_a_module_of_ones_own(parts, module):
    assert parts.build("own_parts:Grid").cells == 7
    assert parts.build("own_parts:Grid:cells=2").cells == 2
    assert parts.build("own_parts:Grid:cells=2", trusted=False).cells == 2
    with pytest.raises(ValueError, match="there is no part 'own_parts:Other' to import"):
        parts.build("own_parts:Other")
    with pytest.raises(ValueError, match="'own_parts:number' is no part"):
        parts.build("own_parts:number")


def test_a_file_imports_no_module(parts, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted_part.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ValueError, match="--import planted_part"):
        parts.build("planted_part:Part", trusted=False)
    assert "planted_part" not in sys.modules


@pytest.mark.parametrize(
    "spec",
    [
        "os:mkdir:path={}",
        "pathlib:Path:args={}",
        "builtins:print",
        "gfnet_env.registry:import_parts",
    ],
)
def test_a_file_calls_nothing_of_modules_that_are_imported_anyhow(parts, tmp_path, spec):
    made = tmp_path / "made"
    with pytest.raises(ValueError, match=r"no file may import; .*--import .*import_parts\('"):
        parts.build(spec.format(made), trusted=False)
    with pytest.raises(ValueError, match="no file may import"):
        parts.find(spec, trusted=False)
    assert not made.exists()


def test_files_may_name_what_their_user_has(parts, module):
    with pytest.raises(ValueError, match="no file may import"):
        parts.find("own_parts:Other", trusted=False)
    import_parts("own_parts")
    assert parts.build("own_parts:Grid:cells=2", trusted=False).cells == 2
    for name in ("", "own parts", "os:system", ".", "no_such_module"):
        with pytest.raises(ImportError, match=f"{name!r}"):
            import_parts(name)


def test_wrong_specs_say_what_there_is(parts):
    with pytest.raises(ValueError, match=r"unknown part 'gird'; did you mean 'grid'\?.*cells=7"):
        parts.build("gird:cells=3")
    with pytest.raises(ValueError, match=r"no parameter 'cell'; it has :cells=7,mode=a"):
        parts.build("grid:cell=3")
    with pytest.raises(ValueError, match="given cells twice"):
        parts.build("grid:cells=3,cells=4")
    with pytest.raises(ValueError, match="cells of 'grid:cells=x' must be a whole number, not 'x'"):
        parts.build("grid:cells=x")
    with pytest.raises(ValueError, match="cells of 'grid:0' must be at least 1, not 0"):
        parts.build("grid:0")
    with pytest.raises(ValueError, match="'folder' lacks a parameter.*'path'"):
        parts.build("folder")
    for spec in (".own:Grid", "..:Grid", "own parts:Grid"):
        with pytest.raises(ValueError, match=r"unknown part .*; or give module:NAME of your own"):
            parts.build(spec)
    with pytest.raises(ValueError, match=r"cells of 'grid:\[\[.* must be a whole number"):
        parts.build("grid:" + 1000 * "[" + 1000 * "]")


def test_names_are_taken_once(parts):
    with pytest.raises(ValueError, match="the part 'grid' exists already"):
        parts.register("grid")(Folder)
    # A module that is read anew registers its parts again.
    parts.register("grid")(Grid)


def test_functions_are_parts_or_make_them():
    makers = Registry("number")
    makers.register("double")(lambda value=1: 2 * value)
    assert makers.build("double:value=4") == 8
    functions = Registry("reward", functions_are_parts=True)
    functions.register("plain")(plain)
    functions.register("grid")(Grid)
    assert functions.build("plain") is plain
    assert functions.build("grid:3").cells == 3
    with pytest.raises(ValueError, match="'plain:x=1' is a function and has no parameters"):
        functions.build("plain:x=1")


@pytest.mark.parametrize("part", [None, 3, Grid])
def test_a_part_that_is_called_must_be_an_object_to_call(part):
    registry = Registry("reward", functions_are_parts=True)
    with pytest.raises(TypeError, match="the reward must be a spec, a function or an object"):
        registry.build(part)


def test_an_error_within_a_part_is_not_taken_for_a_wrong_spec():
    def broken(value: int = 0) -> int:
        return None + value

    registry = Registry("part")
    registry.register("broken")(broken)
    with pytest.raises(TypeError, match="NoneType"):
        registry.build("broken")


def test_a_value_that_a_part_cannot_use_is_named():
    registry = Registry("part")
    registry.register("zeros")(lambda size=1: torch.zeros(size))
    for size in (-1, 2**70):
        with pytest.raises(ValueError, match=f"the part 'zeros:size={size}' cannot be built: "):
            registry.build(f"zeros:size={size}")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("a=1", ["a=1"]),
        ("a=1,b=[2,3],c={x=1,y=2}", ["a=1", "b=[2,3]", "c={x=1,y=2}"]),
        ("/data/a,b/c,fit=whole", ["/data/a,b/c", "fit=whole"]),
    ],
)
def test_items_end_at_commas_that_a_name_follows(text, items):
    assert split_items(text) == items


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float, 1e-3),
        (".5", float, 0.5),
        ("true", bool, True),
        ("False", bool, False),
        ("3", str, "3"),
        ("None", str, "None"),
        ("None", int | None, None),
        ("null", str | None, None),
        ("3", int | str, 3),
        ("three", int | str, "three"),
        ("b", Literal["a", "b"], "b"),
        ("~/x", Path, Path.home() / "x"),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[64]", Sequence[int], (64,)),
        ('{"a": [1]}', Mapping[str, Any], {"a": [1]}),
        ("[1]", Any, [1]),
        ("word", Any, "word"),
        ("0.5", Annotated[float, AtLeast(0)], 0.5),
    ],
)
def test_text_becomes_a_value_of_its_type(text, annotation, value):
    found = convert(text, annotation, "it")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("1.5", int),
        ("true", int),
        ("1", bool),
        ("nan", float),
        ("inf", float),
        ("c", Literal["a", "b"]),
        ("[1, 2]", tuple[int]),
        ("[1, true]", tuple[int, ...]),
        ("word", Sequence[int]),
        ("[1]", Mapping[str, int]),
        ("-1", Annotated[int, AtLeast(0)]),
    ],
)
def test_text_of_another_type_is_refused(text, annotation):
    with pytest.raises(ValueError, match="it must be"):
        convert(text, annotation, "it")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CenterPolicy(scale="x"), "scale must be a finite number, not 'x'"),
        (lambda: RandomPolicy(max_scale=0.5), "max_scale must be at least 1, not 0.5"),
        (lambda: RandomContrast("x"), "seed must be a whole number, not 'x'"),
        (lambda: PeakActions(16, reach="x"), "reach must be a finite number, not 'x'"),
        (lambda: ZoomActions(16, max_scale=[1]), r"max_scale must be a finite number, not \[1\]"),
        (lambda: MapsObservation(0), "focus_steps must be at least 1, not 0"),
        (lambda: MapsObservation(3, scale="no"), "scale must be bool, not 'no'"),
        (lambda: PeakObservation(3, side="x"), "side must be a whole number, not 'x'"),
        (lambda: EvidenceClassifier(8, 3, keep_glance=0), "keep_glance must be .*, not 0"),
        (lambda: AttentionClassifier(8, 3, hidden_size=-1), "hidden_size must be .*, not -1"),
        (lambda: CascadeClassifier(8, 3, 2**40), f"focus_steps must be .*, not {2**40}"),
        (lambda: RecurrentClassifier(8, 3, 0), "memory_size must be .*, not 0"),
        (lambda: RecurrentClassifier(8.5, 3), "vector_size must be .*, not 8.5"),
        (lambda: CompactEncoder("x"), "num_classes must be .*, not 'x'"),
        (lambda: CompactEncoder(3, widths=8), "widths must be .*, not 8"),
        (lambda: CompactEncoder(3, mean="abc"), "mean must be numbers, not 'abc'"),
    ],
)
def test_an_argument_that_a_part_cannot_use_is_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
