"""Model cards: what a network is, how good it is and what it costs, as the hub shows it."""

from collections.abc import Iterator
from importlib import metadata

from gfnet_env.benchmarks.report import millions, step_names
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.inference.budgets import BudgetTable, spread
from gfnet_env.markdown import header, row
from gfnet_env.models import GlanceFocusNetwork, StaticNetwork, static_multiply_adds
from gfnet_env.models.saved import SavedModule
from gfnet_env.policies.learned import LearnedPolicy

_PAPER = "https://arxiv.org/abs/2010.05300"
# Budgets and classes that a card lists at most.
_BUDGETS, _CLASSES = 8, 20


def model_card(part: object, repo_id: str, licence: str | None) -> str:
    """The README.md of a part's repository, with metadata for the hub.

    Args:
        part: An assembled network, a network or a learned policy.
        repo_id: The repository, ``user/name``.
        licence: That of the weights, or None.
    """
    from huggingface_hub import ModelCardData

    about = ModelCardData(
        license=licence,
        library_name="gfnet-env",
        pipeline_tag=None if isinstance(part, LearnedPolicy) else "image-classification",
        tags=["glance-and-focus", "early-exit", "reinforcement-learning"],
    )
    lines = ["---", about.to_yaml(), "---", "", f"# {repo_id.partition('/')[2]}", ""]
    return "\n".join([*lines, *_body(part, repo_id)]) + "\n"


def _body(part: object, repo_id: str) -> Iterator[str]:
    yield f"{_kind(part)}. Made with gfnet-env {metadata.version('gfnet-env')}."
    yield from _use(part, repo_id)
    model = part.model if isinstance(part, EarlyExitGFNet) else part
    if isinstance(model, SavedModule):
        yield from _data(model)
        yield from _figures(model)
    if isinstance(part, EarlyExitGFNet):
        yield from _policy(part)
        if part.budgets:
            yield from _budgets(part.budgets)
    yield from _limits(model)


def _kind(part: object) -> str:
    if isinstance(part, EarlyExitGFNet):
        return (
            f"A complete early-exit GFNet ([Glance and Focus]({_PAPER})): it glances at a small "
            "copy of a picture, then looks at full-resolution windows until it is sure"
        )
    if isinstance(part, LearnedPolicy):
        return f"A policy that decides where a GFNet ([Glance and Focus]({_PAPER})) looks"
    if isinstance(part, StaticNetwork):
        return "A network that classifies whole pictures"
    return f"The encoders and the classifier of a GFNet ([Glance and Focus]({_PAPER}))"


def _use(part: object, repo_id: str) -> Iterator[str]:
    kind = type(part)
    calls = {
        EarlyExitGFNet: (
            "part.set_budget(multiply_adds=15e6)  # what a picture may cost on average",
            "prediction = part(images)  # uint8, (B, C, H, W)",
        ),
        StaticNetwork: ("logits = part(images)  # uint8, (B, C, H, W)",),
    }
    yield from ("", "## Use", "", "```bash", "pip install gfnet-env", "```", "", "```python")
    yield f"from {_home(kind)} import {kind.__name__}"
    yield ""
    yield f'part = {kind.__name__}.from_pretrained("{repo_id}")'
    yield from calls.get(kind, ())
    yield "```"


def _home(kind: type) -> str:
    """The package that exports a class."""
    return kind.__module__.rpartition(".")[0]


def _data(model: SavedModule) -> Iterator[str]:
    data = model.trained_on
    yield from ("", "## Data", "")
    yield f"- Images: `{data.images or 'in memory'}`"
    if data.image_size is not None:
        yield f"- Size: {data.image_size} pixels a side"
    names = model.class_names or ()
    shown = ", ".join(names[:_CLASSES]) + (", …" if len(names) > _CLASSES else "")
    yield f"- Classes: {model.config.num_classes}" + (f" ({shown})" if names else "")
    yield f"- Encoder: `{model.config.encoder}`"
    for name, value in (("Seed", data.seed), ("Commit", data.commit), ("Source", data.source)):
        if value is not None:
            yield f"- {name}: {value}"


def _figures(model: SavedModule) -> Iterator[str]:
    """Accuracy and cost after each step."""
    yield from ("", "## Accuracy and cost", "")
    if isinstance(model, StaticNetwork):
        yield f"{millions(static_multiply_adds(model))} multiply-adds a picture."
        return
    assert isinstance(model, GlanceFocusNetwork)
    costs = model.multiply_adds()
    yield from header("", *step_names(len(costs)))
    yield row("multiply-adds of the step", *map(millions, costs))
    for policy, steps in model.trained_on.accuracy.items():
        yield row(f"{policy} looks, test accuracy", *map("{:.1%}".format, steps))


def _policy(gfnet: EarlyExitGFNet) -> Iterator[str]:
    yield from ("", f"It looks where `{type(gfnet.policy).__name__}` decides.")


def _budgets(table: BudgetTable) -> Iterator[str]:
    """Accuracy against cost under early exits."""
    yield from ("", "With early exits, on the calibration split:", "")
    yield from header("mean multiply-adds", "accuracy", "exits at the glance")
    for point in spread(table.points, _BUDGETS):
        share = f"{point.exit_share[0]:.0%}"
        yield row(millions(point.multiply_adds), f"{point.accuracy:.1%}", share)


def _limits(model: object) -> Iterator[str]:
    yield from ("", "## Limits", "")
    if isinstance(model, SavedModule):
        yield "It knows the classes above only, and pictures like those that it was trained on:"
        yield "on others its accuracy is unknown, and exits, which trust its confidence, may come"
        yield "too early. Measure it on your pictures before you rely on it."
    else:
        yield "It reads features of the network that it was trained with, and no other's."
