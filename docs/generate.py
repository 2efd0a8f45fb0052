"""Write the generated parts of the documentation, and what ``--help`` shows.

python docs/generate.py

A generated part stands in a page between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Numbers
come from ``experiments/results`` and from the cards of packaged networks; lists of parts come from
the registries. Pages about environments and the help of commands are generated as a whole.
"""

import contextlib
import functools
import inspect
import io
import json
import re
import runpy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np
from docstring_parser import Docstring, parse, parse_from_object
from gymnasium.envs.registration import EnvSpec

import gfnet_env
from gfnet_agents import leaderboard
from gfnet_agents.config import PARTS
from gfnet_agents.learners import LEARNERS
from gfnet_agents.learners.base import choose_actions, takes
from gfnet_cli import main as cli
from gfnet_cli.commands import COMMANDS, GROUPS
from gfnet_env.actions import ACTIONS
from gfnet_env.env.vector import GlanceFocusVectorEnv, open_model
from gfnet_env.exits import EXITS
from gfnet_env.files import write_text
from gfnet_env.images import IMAGES, ArrayImages
from gfnet_env.markdown import header, row
from gfnet_env.observations import OBSERVATIONS
from gfnet_env.observations.base import FEATURE_BOUND
from gfnet_env.policies import POLICIES
from gfnet_env.registry import Registry
from gfnet_env.rewards import REWARDS
from gfnet_env.tasks import TASKS, Task
from gfnet_env.zoo import DEFAULT

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
DOCS = ROOT / "docs"
HELP = ROOT / "agents" / "gfnet_cli" / "help"
DEFAULT_ID = "gfnet_env/GlanceFocus-v0"

Lines = list[str]
Json = dict[str, Any]

# The tasks of the studies: results, side of the windows, and what they are called.
STUDIES = {
    "digits": ("digits-48", "48", "cluttered digits, 128×128"),
    "mnist-60": ("ram60", "20", "cluttered MNIST, 60×60"),
    "mnist-100": ("ram100", "24", "cluttered MNIST, 100×100"),
    "clothing-96": ("clothing", "96", "photographs of clothes, 224×224"),
    "clothing-128": ("clothing", "128", "photographs of clothes, 224×224"),
}

# Operating points whose wall times are shown, the first that was measured, and what ran them.
_CHOSEN = ("geometric, at accuracy", "geometric, within interval")
_TIMED = (("onnx", 1), ("onnx", 64), ("torch", 1), ("torch", 64))

CHOICES = {
    "default": "default",
    "flattened-maps": "maps read cell by cell, as in the paper, not by attention",
    "latest-map-only": "the map of the latest view only, without the glance's",
    "no-inhibition": "no inhibition of places that were looked at",
    "half-the-maps": "half the channels and attention maps",
    "all-alike": "all images alike, not more often those that the glance is unsure of",
    "no-exits": "episodes that go on when the classifier is sure",
    "all-alike-no-exits": "both of the two above",
    "learns-from-val": "learns from `val`, which the classifier never saw",
    "log-probability": "rewarded in log-probability",
    "random-contrast": "rewarded above a random window",
    "discount-0.7": "discount 0.7, not 0",
    "map-of-block-2": "an earlier feature map, after two of three blocks",
    "map-of-block-1": "an earlier feature map, after the first block",
    "patches-of-24": "P = 24",
    "patches-of-48": "P = 48",
}


SCALES = {
    "pictures": "pictures in a folder",
    "envs": "sub-environments",
    "sides": "pixels along a side",
    "classes": "classes",
}


def headline() -> Lines:
    """The whole picture against early exits, of all studies."""
    lines = header("task", "whole picture", "cost", "GFNet", "cost", "times fewer")
    for name in ("digits", "mnist-60", "mnist-100", "clothing-128"):
        folder, side, title = STUDIES[name]
        runs = _read(folder)["runs"]
        static = [run["static"][-1] for run in runs]
        found = [_exit(run, side) for run in runs]
        lines.append(
            row(
                f"[{title}]({_link(folder)})",
                _percent(each["accuracy"] for each in static),
                _millions(each["multiply_adds"] for each in static),
                _percent(each["accuracy"] for each in found),
                _millions(each["multiply_adds"] for each in found),
                f"{fmean(each['factor'] for each in found):.1f}×",
            )
        )
    seeds = len(_read("digits-48")["runs"])
    return [
        *lines,
        "",
        f"Test accuracy and multiply-adds for a picture, means of {seeds} seeds. The exits were "
        "chosen on validation pictures to stay within the 95% interval of the network that sees "
        "whole pictures.",
    ]


def rivals() -> Lines:
    """The error of RAM beside ours, in two sentences."""
    looks, theirs, ours = 4, [], []
    for folder in ("ram60", "ram100"):
        results = _read(folder)
        side = next(iter(results["runs"][0]["gfnets"]))
        errors = [1 - run["gfnets"][side]["policies"]["learned"][looks] for run in results["runs"]]
        published = next(iter(results["published"].values()))
        theirs.append(f"{published.split(' / ')[0]}% ({_size(results)})")
        ours.append(f"{fmean(errors):.2%}")
    return [
        "[Recurrent Models of Visual Attention](https://arxiv.org/abs/1406.6247) has errors of "
        f"{' and '.join(theirs)} on cluttered MNIST after {looks} looks. Ours are "
        f"{' and '.join(ours)}.",
    ]


def megapixel() -> Lines:
    """What the packaged network of Megapixel MNIST does, in a sentence."""
    name = "megapixel-mnist"
    card, side = gfnet_env.pretrained()[name], IMAGES.parameters(name)["side"].default
    return [
        f"On pictures of Megapixel MNIST, {side}×{side}, a [network of the "
        f"package](docs/small-objects.md#a-trained-network) is right in {_share(card.accuracy)}. "
        f"It takes {card.looks:.1f} looks and {_millions([card.multiply_adds])} multiply-adds on "
        "average.",
    ]


def megapixel_tasks() -> Lines:
    """The table of the recipe for Megapixel MNIST."""
    recipe = runpy.run_path(str(ROOT / "experiments" / "recipes" / "megapixel.py"))
    return [line for line in recipe["_report"](_read("megapixel")) if line.startswith("|")]


def digits() -> Lines:
    """Policies on the default digits, per step."""
    results = _read("digits")
    costs = results["multiply_adds"]
    lines = header("policy", *_steps(len(costs)))
    for name, found in results["policies"].items():
        whole = found["images"] == results["images"]
        label = name if whole else f"{name} ({found['images']} scenes)"
        lines.append(row(label, *map(_share, found["accuracy"])))
    lines.append(row("*multiply-adds*", *(f"*{cost / 1e6:.1f} M*" for cost in costs)))
    return lines


def digits_exits() -> Lines:
    """What early exits cost on the default digits."""
    results = _read("digits")
    every, cost = results["policies"]["learned"]["accuracy"][-1], results["multiply_adds"][-1]
    # The cheapest point that is within a point of all looks.
    point = next(each for each in results["early_exit"] if each["accuracy"] > every - 0.01)
    return [
        f"With all looks the learned policy reaches {_share(every)} at {cost / 1e6:.1f} M "
        f"multiply-adds a scene. With early exits it reaches {_share(point['accuracy'])} at "
        f"{point['multiply_adds'] / 1e6:.1f} M: {point['exit_share'][0]:.0%} of the scenes exit "
        "at the glance."
    ]


def study(name: str) -> Lines:
    """Static networks and early exits of a study."""
    folder, side, title = STUDIES[name]
    runs = _read(folder)["runs"]
    lines = header(title, "accuracy", "multiply-adds", "times fewer")
    for networks in reversed([*zip(*(run["static"] for run in runs), strict=True)]):
        resolution = networks[0]["resolution"]
        lines.append(_row(f"static, {resolution}×{resolution}", networks))
    geometric = [run["gfnets"][side]["budgeted"]["geometric"] for run in runs]
    before = ""
    for number, points in enumerate(zip(*geometric, strict=True)):
        accuracy = _percent(each["accuracy"] for each in points)
        if accuracy != before:
            label = "early exit" if number else "glance"
            lines.append(_row(f"GFNet, P = {side}, {label}", points))
        before = accuracy
    for method in ("geometric", "searched"):
        chosen = [_exit(run, side, method) for run in runs]
        if all(chosen):
            lines.append(_row(f"early exit chosen on `val`, {method}", chosen))
    return lines


def ram(folder: str) -> Lines:
    """Test error by the number of looks, beside the published ones."""
    results = _read(folder)
    runs, looks = results["runs"], (1, 2, 3, 4, 6, 8)
    lines = header(f"{_size(results)}, looks", *map(str, looks))
    others = []
    for name, text in results["published"].items():
        if "network" in name:
            others.append(f"{name}, {text}")
            continue
        numbers = re.findall(r"[\d.]+", text)
        at = dict(zip((4, 6, 8)[-len(numbers) :], numbers, strict=True))
        label = re.sub(r"[\d /]+( random)? glimpses", r"\1 glimpses", name).replace("  ", " ")
        lines.append(row(label, *(f"{at[n]}%" if n in at else "" for n in looks)))
    for side in runs[0]["gfnets"]:
        for policy in ("learned", "random", "target"):
            per_seed = [run["gfnets"][side]["policies"][policy] for run in runs]
            errors = [1 - fmean(values) for values in zip(*per_seed, strict=True)]
            cells = (f"{errors[n]:.2%}" if n < len(errors) else "" for n in looks)
            lines.append(row(f"ours, P = {side}, {policy}", *cells))
    error = 1 - fmean(run["static"][-1]["accuracy"] for run in runs)
    ours = f"Errors on whole pictures: our static network, {error:.2%}"
    return [*lines, "", f"{ours}; {'; '.join(others)}."]


def wall_times() -> Lines:
    """How many times faster than the static network, at the point that was chosen on ``val``."""
    columns = ("ONNX Runtime, batch 1", "batch 64", "torch, batch 1", "batch 64")
    lines = header("task", "threads", *columns)
    for folder, side, title in STUDIES.values():
        for run in _read(folder)["runs"]:
            found = run["gfnets"][side]["latency"]
            names = [point["name"] for point in found["points"]] if found else []
            at = next((names.index(name) for name in _CHOSEN if name in names), None)
            # Early studies did not note their threads.
            if at is None or "threads" not in found["timings"][0]:
                continue
            times = {
                (each["threads"], each["engine"], each["batch_size"]): each["points"][at]["speedup"]
                for each in found["timings"]
            }
            for threads in sorted({key[0] for key in times}):
                cells = (f"{times[threads, *key]['median']:.1f}" for key in _TIMED)
                lines.append(row(f"{title}, P = {side}", str(threads), *cells))
    return lines


def algorithms() -> Lines:
    """Algorithms with few steps on the default digits."""
    results = _read("algorithms")
    columns = _steps(len(results["bounds"]["random"]))[1:]
    lines = header("algorithm", *columns, "above random, points", "seconds a run")
    best_first = sorted(results["schedules"].items(), key=lambda each: -each[1]["accuracy"][-1])
    for name, found in best_first:
        seconds = fmean(run["seconds"] for run in results["runs"] if run["schedule"] == name)
        low, high = (f"{100 * end:.1f}" for end in found["above_random_interval"])
        above = f"{100 * found['above_random']:.1f} ({low} to {high})"
        lines.append(row(f"`{name}`", *map(_share, found["accuracy"][1:]), above, f"{seconds:.0f}"))
    bounds = {name: _share(each[-1]) for name, each in results["bounds"].items()}
    seeds = len({run["seed"] for run in results["runs"]})
    steps = max(run["environment_steps"] for run in results["runs"])
    return [
        f"Accuracy on {results['images']:,} test scenes, mean of {seeds} seeds, after at most "
        f"{steps:,} environment steps. Random looks end at {bounds['random']}, looks at the digit "
        f"at {bounds['target']}.",
        "",
        *lines,
    ]


def ppo() -> Lines:
    """PPO with many steps."""
    results = _read("ppo")
    accuracy = " / ".join(
        f"{100 * value:.1f}" for value in results["schedules"]["ppo"]["accuracy"][1:]
    )
    steps = max(run["environment_steps"] for run in results["runs"])
    return [
        f"So few steps suit what learns from a replay memory. PPO with {steps:,} steps and "
        f"{len(results['runs'])} seeds reaches {accuracy}% after one, two and three looks."
    ]


def choices() -> Lines:
    """One choice of stage 2 changed at a time."""
    results = _read("policy-choices")
    columns = _steps(len(results["bounds"]["random"]))[1:]
    lines = header("changed", *columns, "share of the target's gain")
    for name, what in CHOICES.items():
        found = results["schedules"][name]
        share = _share(found["share_of_target_gain"])
        lines.append(row(what, *map(_share, found["accuracy"][1:]), share))
    missing = results["schedules"].keys() - CHOICES.keys()
    assert not missing, f"describe the choices {missing}"
    return lines


def throughput() -> Lines:
    """Ratios of environments to bare encoders."""
    files = sorted((RESULTS / "throughput").glob("*.json"))
    lines = header("", *(f"`{file.stem}`" for file in files))
    columns = []
    for file in files:
        found = json.loads(file.read_text())
        trained = {
            f"PPO's steps / bare encoders' pictures, {name}": each["share_of_bare_encoders"]
            for name, each in found["training"].items()
        }
        columns.append(found["ratios"] | trained)
    for name in dict.fromkeys(name for column in columns for name in column):
        lines.append(row(name, *(f"{each[name]:.2f}" if name in each else "" for each in columns)))
    return lines


def memory() -> Lines:
    """Peak memory of a GFNet and of its encoder on whole pictures."""
    lines = header("picture", "GFNet", "while it runs", "whole picture", "while it runs")
    for each in _read("memory")["rows"]:
        cells = []
        for kind in ("gfnet", "static"):
            peak, idle = each[kind]["peak"], each[kind]["idle"]
            cells += [f"{peak:,.0f} MiB", f"{max(peak - idle, 0):,.0f} MiB"]
        lines.append(row(f"{each['resolution']}×{each['resolution']}", *cells))
    return lines


def scale() -> Lines:
    """What each part takes at the smallest and at the largest number."""
    lines = header("of", "part", "from", "", "to", "")
    for name, found in _read("scale")["taken"].items():
        for part, by_number in found.items():
            ends = [min(by_number, key=int), max(by_number, key=int)]
            cells = [
                cell
                for end in ends
                for cell in (
                    f"{int(end):,}",
                    f"{by_number[end]['seconds']:.2f} s, {by_number[end]['mib']:.0f} MiB",
                )
            ]
            lines.append(row(SCALES[name], part, *cells))
    return lines


def robustness() -> Lines:
    """What fuzzing, kills and long use found."""
    fuzz, faults, soak = (_read(f"robustness/{name}") for name in ("fuzz", "faults", "soak"))
    every = fuzz["outcomes"]["all"]
    kills = sum(each["kills"]["kills"] for each in faults.values())
    disks = sum(count for each in faults.values() for count in each["full disks"].values())
    steps, predictions = (soak[name][-1]["count"] for name in ("steps", "predictions"))
    grown = max(soak["growth"].values())
    return [
        f"- **{every['inputs']:,} drawn inputs**: {every['right']:,} gave the right result, "
        f"{every['errors_of_ours']:,} an error of ours that says what to do, "
        f"{every['errors_of_others'] + every['wrong']} anything else.",
        f"- **{kills} kills and {disks} full disks** in {len(faults)} operations: the folder held "
        "the old state or the new one, never a mixture.",
        f"- **{steps:,} environment steps and {predictions:,} predictions** in one process: its "
        f"memory grew by at most {grown:.1f} MiB.",
    ]


def networks() -> Lines:
    """The networks of the package."""
    lines = header("network", "images", "accuracy", "mean looks", "mean multiply-adds")
    for name, card in gfnet_env.pretrained().items():
        cost = f"{card.multiply_adds / 1e6:.1f} M"
        cells = (f"`{card.images}`", _share(card.accuracy), f"{card.looks:.1f}", cost)
        lines.append(row(f"`{name}`", *cells))
    return lines


def commands() -> Lines:
    """The subcommands of ``gfnet``."""
    lines = header("", "`gfnet …`", "what it does")
    for title, group in GROUPS.items():
        for command in group:
            lines.append(row(title, f"`{command.name}`", command.summary))
            title = ""
    return lines


def helps() -> Lines:
    """The help of every subcommand, by what a page includes."""
    lines = []
    for name in COMMANDS:
        page = (HELP / f"{name}.txt").relative_to(ROOT)
        lines += ["", f"### gfnet {name}", "", "```text", f'--8<-- "{page}"', "```"]
    return lines


def parts(registry: Registry[Any]) -> Lines:
    """The parts of a registry, their parameters and what they do."""
    lines = header("name", "parameters", "what it does")
    for name in _own(registry):
        required = any(each.default is each.empty for each in registry.parameters(name).values())
        # Saved networks bring such policies, and their parameters.
        shown = [] if required and registry is POLICIES else _parameters(registry, name)
        cells = ", ".join(f"`{each}`" for each in shown)
        lines.append(row(f"`{name}`", cells, _summary(registry.find(name))))
    return lines


def _own(registry: Registry[Any]) -> Lines:
    """The names of a registry's parts that come with the library."""
    ours = ("gfnet_env.", "gfnet_agents.")
    return [name for name in registry if registry.find(name).__module__.startswith(ours)]


def learners() -> Lines:
    """The learners, and the kinds of actions that they take."""
    lines = header("`--algorithm`", "what it is", "default actions", "also")
    for name in _own(LEARNERS):
        kind = LEARNERS.find(name)
        default = choose_actions(name, None).spec
        taken = [each for each in _own(ACTIONS) if takes(name, each)]
        taken.remove(default.partition(":")[0])
        cells = ", ".join(f"`{each}`" for each in taken)
        lines.append(row(f"`{name}`", _summary(kind), f"`{default}`", cells))
    return lines


def _parameters(registry: Registry[Any], name: str) -> Iterator[str]:
    for each in registry.parameters(name).values():
        required = each.default is inspect.Parameter.empty
        yield each.name if required else f"{each.name}={_shown(each.default)}"


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, tuple | bool) else str(value)


def _summary(target: Callable[..., Any]) -> str:
    """The first sentence of a docstring, as Markdown in a cell."""
    found = _docstring(target).short_description or ""
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(found.split())).replace("|", r"\|")


def _docstring(target: Callable[..., Any]) -> Docstring:
    return parse(inspect.getdoc(target) or "")


PARTS_SHOWN: dict[str, Registry[Any]] = {
    "images": IMAGES,
    "encoders": PARTS["encoder"],
    "classifiers": PARTS["classifier"],
    "actions": ACTIONS,
    "observations": OBSERVATIONS,
    "rewards": REWARDS,
    "exits": EXITS,
    "policies": POLICIES,
}


def environments() -> Lines:
    """The registered environments, with their networks, images and looks."""
    lines = header("id", "what it is", "network", "images", "looks after the glance")
    for spec in _registered():
        env = _open(spec)
        task = _task(spec)
        cells = (
            task.title if task else "any network and any pictures; by default these",
            f"`{task.network if task else DEFAULT}`",
            f"`{_images(spec, env)}`",
            str(env.focus_steps),
        )
        lines.append(row(f"[`{spec.id}`]({_page(spec)})", *cells))
    return lines


def _registered() -> list[EnvSpec]:
    return [spec for spec in gym.registry.values() if spec.namespace == "gfnet_env"]


def _task(spec: EnvSpec) -> Task | None:
    """The standard task that an environment is."""
    return TASKS.get(f"{spec.name}-v{spec.version}")


def _open(spec: EnvSpec) -> Any:
    """An environment, with blank pictures: those of the task may be on no disk here."""
    model = open_model(spec.kwargs.get("model"))
    side, count = model.trained_on.image_size or 0, model.num_classes
    blank = ArrayImages(np.zeros((count, 3, side, side), dtype=np.uint8), np.arange(count))
    return gym.make(spec.id, images=blank, model=model).unwrapped


def _images(spec: EnvSpec, env: Any) -> str:
    images: str = spec.kwargs.get("images", env.model.trained_on.images)
    return images


def _page(spec: EnvSpec) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", spec.name).lower()
    return f"{name}-v{spec.version}.md"


def environment(spec: EnvSpec) -> str:
    """The page about an environment."""
    env, task = _open(spec), _task(spec)
    described = parse_from_object(GlanceFocusVectorEnv)
    assert described.long_description is not None
    given = ", ".join(f"{key}={value!r}" for key, value in (task.parts if task else {}).items())
    lines = [
        f"# {spec.id}",
        "",
        "![The network looks at test scenes](../looking.gif)"
        if task is None
        else f"A [standard task](index.md#standard-tasks): {task.title}.",
        "",
        *([described.short_description or "", ""] if task is None else []),
        *header("", ""),
        row("Action space", f"`{env.action_space}`"),
        row("Observation space", "`Dict`, see [below](#observations)"),
        row("One environment", f'`gymnasium.make("{spec.id}")`'),
        row("N side by side", f'`gymnasium.make_vec("{spec.id}", num_envs=N)`'),
        row("Network", f'`gfnet_env.pretrained("{task.network if task else DEFAULT}")`'),
        row("Images", f"`{_images(spec, env)}`, split `train`"),
        row("Looks", f"{env.focus_steps} after the glance"),
        *([row("Arguments of this id", f"`{given}`")] if given else []),
        "",
    ]
    if task is None:
        lines += _rules(spec, described)
    lines += [
        "## Observations",
        "",
        "An observation is a dict of float32 arrays. By default, with this network:",
        "",
        *header("key", "shape", "range"),
    ]
    for key, space in env.observation_space.spaces.items():
        low, high = float(space.low.min()), float(space.high.max())
        unbounded = abs(high) >= FEATURE_BOUND
        within = "any" if unbounded else f"[{low:g}, {high:g}]"
        lines.append(row(f"`{key}`", str(tuple(space.shape)), within))
    lines += _arguments(described) if task is None else _standings(spec)
    return "\n".join(lines) + "\n"


def _rules(spec: EnvSpec, described: Docstring) -> Lines:
    """What all environments have in common: the loop, and actions."""
    return [
        _markdown(described.long_description or ""),
        "",
        "```python",
        "import gymnasium as gym",
        "import gfnet_env",
        "",
        f'env = gym.make("{spec.id}")',
        "observation, info = env.reset(seed=0)",
        "observation, reward, terminated, truncated, info = env.step(env.action_space.sample())",
        "```",
        "",
        "## Actions",
        "",
        "`actions=` chooses the kind. `+stop` after any of them, as in `zoom+stop`, adds an action",
        "that ends the episode. A stop encodes nothing and has reward 0.",
        "",
        *parts(ACTIONS),
        "",
    ]


def _arguments(described: Docstring) -> Lines:
    """What else all environments have in common: other observations, rewards, exits, arguments."""
    lines = ["", "`observation=` chooses another one:"]
    for name in _own(OBSERVATIONS):
        about = _docstring(OBSERVATIONS.find(name))
        text = " ".join(filter(None, [about.short_description, about.long_description]))
        parameters = "".join(f", `{each}`" for each in _parameters(OBSERVATIONS, name))
        lines += ["", f"- `{name}`{parameters}: {_markdown(' '.join(text.split()))}"]
    lines += [
        "",
        "## Rewards",
        "",
        "`reward=` chooses what a look is worth. p_t(y) is the confidence in the true class after",
        "look t. `look_cost=0.01` subtracts a cost from the reward of every look.",
        "",
        *parts(REWARDS),
        "",
        "## Exits",
        "",
        "`exits=` says when an episode ends before its last look.",
        "",
        *parts(EXITS),
        "",
        "## Arguments",
        "",
        *header("argument", "default", "what it is"),
    ]
    signature = inspect.signature(GlanceFocusVectorEnv).parameters
    for each in described.params:
        default = signature[each.arg_name].default
        shown = getattr(default, "value", default)
        text = _markdown(" ".join((each.description or "").split())).replace("|", r"\|")
        lines.append(row(f"`{each.arg_name}`", f"`{shown!r}`", text))
    return [
        *lines,
        "",
        "`num_envs` and `autoreset_mode` belong to `make_vec`.",
        "",
        "## Baseline scores",
        "",
        "Test accuracy of policies on the packaged network:",
        "",
        *digits(),
        "",
        *algorithms(),
    ]


def _standings(spec: EnvSpec) -> Lines:
    """All else is as with any network; and the scores of a standard task."""
    lines = [
        "",
        f"Actions, rewards, exits and other arguments are those of [`{DEFAULT_ID}`]"
        f"({_page(gym.spec(DEFAULT_ID))}).",
    ]
    found = leaderboard.standings(_read("leaderboard"), f"{spec.name}-v{spec.version}")
    if found:
        lines += ["", "## Scores", "", *leaderboard.table(found)]
    return lines


def _markdown(text: str) -> str:
    """A docstring's literals as Markdown's."""
    return re.sub(r"``([^`]*)``", r"`\1`", text)


GENERATED: dict[str, Callable[[], Lines]] = {
    "headline": headline,
    "rivals": rivals,
    "megapixel": megapixel,
    "megapixel-tasks": megapixel_tasks,
    "digits": digits,
    "digits-exits": digits_exits,
    "wall-times": wall_times,
    "ram-60": lambda: ram("ram60"),
    "ram-100": lambda: ram("ram100"),
    "algorithms": algorithms,
    "ppo": ppo,
    "choices": choices,
    "throughput": throughput,
    "scale": scale,
    "memory": memory,
    "robustness": robustness,
    "networks": networks,
    "environments": environments,
    "commands": commands,
    "helps": helps,
    "learners": learners,
}
GENERATED |= {f"study-{name}": functools.partial(study, name) for name in STUDIES}
GENERATED |= {name: functools.partial(parts, each) for name, each in PARTS_SHOWN.items()}

_PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """What every page with generated parts should hold."""
    found = {}
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text()
        if _PART.search(text):
            found[page] = _PART.sub(_filled, text)
    for spec in _registered():
        found[DOCS / "environments" / _page(spec)] = environment(spec)
    found |= {HELP / f"{name}.txt": help_of(name) for name in COMMANDS}
    found[DOCS / "tutorial.ipynb"] = notebook((DOCS / "tutorial.md").read_text())
    return found


def help_of(command: str) -> str:
    """What ``gfnet COMMAND --help`` shows."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        # With another option, it is made anew.
        cli.run(command, ["--help", "--debug"])
    return shown.getvalue()


def notebook(page: str) -> str:
    """A page as a notebook: its Python blocks are cells to run."""
    cells: list[Json] = []
    for number, text in enumerate(re.split(r"^```(?:python)?\n", page, flags=re.MULTILINE)):
        cell: Json = {"id": f"cell-{number}", "metadata": {}, "source": text.strip()}
        if number % 2:
            cells.append({"cell_type": "code", "execution_count": None, "outputs": []} | cell)
        elif cell["source"]:
            # Pages of the site are beside the page, not beside the notebook.
            cell["source"] = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell["source"])
            cells.append({"cell_type": "markdown"} | cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _filled(part: re.Match[str]) -> str:
    lines = GENERATED[part[2]]()
    return "\n".join([part[1], *lines, "", part[3]])


def _read(name: str) -> Json:
    path = RESULTS / f"{name}.json"
    return json.loads((path if path.is_file() else RESULTS / name / "results.json").read_text())


def _link(folder: str) -> str:
    return f"experiments/results/{folder}/README.md"


def _size(results: Json) -> str:
    """``60×60``, from the title of a study."""
    return results["title"].split(", ")[1]


def _exit(run: Json, side: str, method: str = "geometric") -> Json:
    """The exits that were chosen to stay within the static network's interval."""
    return run["gfnets"][side]["comparison"][method]["within_interval"]


def _steps(count: int) -> Lines:
    """The columns of steps, glance first."""
    return ["glance", *(f"look {number}" for number in range(1, count))]


def _row(label: str, points: Sequence[Json]) -> str:
    """Accuracy with its range over seeds, cost, and how much cheaper that is."""
    saved = f"{fmean(each['factor'] for each in points):.1f}×" if "factor" in points[0] else ""
    accuracies = [each["accuracy"] for each in points]
    spread = f"{_percent(accuracies)} ({_share(min(accuracies))} – {_share(max(accuracies))})"
    return row(label, spread, _millions(each["multiply_adds"] for each in points), saved)


def _percent(shares: Iterable[float]) -> str:
    return _share(fmean(shares))


def _share(value: float) -> str:
    return f"{value:.1%}"


def _millions(costs: Iterable[float]) -> str:
    return f"{fmean(costs) / 1e6:.1f} M"


if __name__ == "__main__":
    HELP.mkdir(exist_ok=True)
    for path, content in pages().items():
        write_text(path, content)
