"""The optimiser, learning rates, moving average of weights, and frozen parts."""

import contextlib
import difflib
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gfnet_env.training.config import Schedule

_LISTED = 12


def frozen_parts(encoders: Sequence[nn.Module], names: Sequence[str]) -> list[nn.Module]:
    """The parts of every encoder that have these names.

    Raises:
        ValueError: An encoder has no such part.
    """
    for encoder in encoders:
        known = [name for name, _ in encoder.named_modules() if name]
        for name in names:
            if name not in known:
                # An encoder may have hundreds.
                outer = [part for part in known if part.count(".") < 2]
                listed = ", ".join(outer[:_LISTED]) + ", …" * (len(known) > _LISTED)
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"no part {name!r} to freeze; known: {listed}{hint}")
    return [encoder.get_submodule(name) for encoder in encoders for name in names]


def build_optimiser(
    encoders: Sequence[nn.Module], classifiers: Iterable[nn.Module], schedule: Schedule
) -> Optimizer:
    """The optimiser, with ``learning_rate`` for encoders and ``classifier_learning_rate``."""
    new = [p for module in classifiers for p in module.parameters()]
    taken = {id(p) for p in new}
    rest = [p for module in encoders for p in module.parameters() if id(p) not in taken]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    groups = [
        {"params": rest, "lr": rate},
        {"params": new, "lr": schedule.classifier_learning_rate or rate},
    ]
    if schedule.optimiser == "adamw":
        return torch.optim.AdamW(groups, weight_decay=decay)
    return torch.optim.SGD(groups, momentum=schedule.momentum, nesterov=True, weight_decay=decay)


def build_rates(optimiser: Optimizer, schedule: Schedule, total: int, step: int) -> LambdaLR:
    """The learning rates of ``total`` steps, of which ``step`` have been taken."""
    factor = functools.partial(_warmup_and_cosine, total=total, share=schedule.warmup)
    return LambdaLR(optimiser, factor, last_epoch=step - 1)


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """The moving average of a model's weights and batch norm statistics, or None."""
    if decay == 0:
        return None
    mean = get_ema_multi_avg_fn(decay)
    return AveragedModel(model, multi_avg_fn=mean, use_buffers=True)


@contextlib.contextmanager
def averaged(model: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Give a model its average weights, if there are any, within the context."""
    if average is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)


def _warmup_and_cosine(step: int, total: int, share: float) -> float:
    """Share of the peak rate: a linear warm-up, then a cosine to 0."""
    warmup = max(1, int(share * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def check_optimiser(optimiser: Optimizer, state: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless the tensors in an optimiser's state have its parameters' shapes.

    Torch does not look, and its fused kernels would write beyond smaller ones.
    """
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    for number, parts in state["state"].items():
        for name, value in parts.items():
            wanted = torch.Size() if name == "step" else parameters[number].shape
            found = wanted if value is None else torch.as_tensor(value).shape
            if found != wanted:
                raise ValueError(f"{name} of the optimiser has the shape {found}, not {wanted}")
