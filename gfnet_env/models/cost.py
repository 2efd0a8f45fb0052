"""The cost of a prediction: multiply-adds, parameters and memory."""

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from gfnet_env.looks import Look
from gfnet_env.models.base import Model, State, blank_state, blank_views, glance_view

if TYPE_CHECKING:
    from gfnet_env.models.static import StaticNetwork
    from gfnet_env.policies.base import Context, Policy

# Counting changes settings of the process and modes of modules: one thread counts at a time.
_COUNTING = threading.RLock()
# A process that is forked meanwhile would wait for a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COUNTING.acquire,
        after_in_parent=_COUNTING.release,
        after_in_child=_COUNTING.release,
    )


@dataclass(frozen=True)
class PartCost:
    """The cost of one part of a model for one picture.

    Attributes:
        name: The part.
        input_shape: Shape of its main input, without the batch.
        multiply_adds: Multiply-adds of one call.
        parameters: Number of parameters.
        activation_bytes: See ``peak_activation_bytes``.
    """

    name: str
    input_shape: tuple[int, ...]
    multiply_adds: int
    parameters: int
    activation_bytes: int


def count_multiply_adds(function: Callable[..., Any], *inputs: Any, **named: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of one call; nothing else counts.

    Args:
        function: A module or function. The module and any modules among the inputs are in
            evaluation mode during the call.
        inputs: Its arguments; a batch of one gives the cost of one picture.
        named: Its keyword arguments.
    """
    total = 0

    def count(operation: Any, args: Any, kwargs: Any, result: Any) -> None:
        nonlocal total
        # Torch's own formulas; its ``FlopCounterMode`` adds hooks that all threads share.
        if formula := flop_registry.get(operation.overloadpacket):
            total += formula(*args, **kwargs, out_val=result)

    with _evaluating(function, *inputs), _unfused(), _Observed(count):
        function(*inputs, **named)
    # A multiply-add is two operations.
    return total // 2


def count_parameters(part: object) -> int:
    """Number of parameters of a module; 0 for anything else."""
    return sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0


def peak_activation_bytes(function: Callable[..., Any], *inputs: Any, **named: Any) -> int:
    """Peak memory of the inputs and of the results of operations during a call.

    Weights do not count, nor does memory that an operation allocates and frees internally. See
    ``count_multiply_adds`` for the arguments.
    """
    module = function if isinstance(function, nn.Module) else nn.Module()
    weights = [*module.parameters(), *module.buffers()]
    live = _LiveBytes({tensor.untyped_storage().data_ptr() for tensor in weights})
    live.count((inputs, named))
    with _evaluating(function, *inputs), _Observed(lambda *call: live.count(call[-1])):
        function(*inputs, **named)
    return live.peak


def part_costs(model: Model, policy: "Policy | None" = None) -> list[PartCost]:
    """The cost of every part for one picture: the policy, and each child module a model calls.

    Each part counts with its last call, which is the most expensive if the costs of looks differ.
    """
    calls = _last_calls(model)
    if policy is not None:
        calls["policy"] = policy, _policy_inputs(policy, model), {}
    return [
        PartCost(
            name=name.replace("_", " "),
            input_shape=_main_shape((inputs, named)),
            multiply_adds=count_multiply_adds(part, *inputs, **named),
            parameters=count_parameters(part),
            activation_bytes=peak_activation_bytes(part, *inputs, **named),
        )
        for name, (part, inputs, named) in calls.items()
    ]


def step_multiply_adds(model: Model) -> list[int]:
    """Multiply-adds of one picture's glance and of each of its looks, without a policy."""
    costs = [count_multiply_adds(blank_state, model)]
    with _evaluating(model):
        state = blank_state(model)
        for _ in range(model.focus_steps):
            costs.append(count_multiply_adds(_look, model, state))
            state = _look(model, state)
    return costs


def policy_multiply_adds(policy: "Policy", model: Model) -> int:
    """Multiply-adds of one decision for one picture."""
    return count_multiply_adds(policy, *_policy_inputs(policy, model))


def start_multiply_adds(policy: "Policy", model: Model) -> int:
    """Multiply-adds of a policy's ``start`` with one picture."""
    from gfnet_env.policies.base import start

    with _evaluating(model):
        return count_multiply_adds(start, policy, _blank_context(model))


def static_multiply_adds(network: "StaticNetwork") -> int:
    """Multiply-adds of one picture in a static network."""
    side = network.view.size
    views = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=network.device)
    return count_multiply_adds(network, views)


class _Observed(TorchDispatchMode):
    """Passes every torch operation to a function: operation, arguments, keywords, result."""

    def __init__(self, observe: Callable[..., None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observe = observe

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip its compiler, torch would import it, which takes longer than all of torch.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._observe(func, args, kwargs or {}, result)
        return result


class _LiveBytes:
    """The memory of all counted tensors that are alive, except weights."""

    def __init__(self, weights: set[int]) -> None:
        self.peak = self._live = 0
        self._ignored = weights
        self._counted: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def count(self, tree: Any) -> None:
        for tensor in tree_leaves(tree):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage not in self._counted and storage.data_ptr() not in self._ignored:
                self._counted.add(storage)
                self._live += storage.nbytes()
                self.peak = max(self.peak, self._live)
                weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self._live -= size


@contextmanager
def _unfused() -> Iterator[None]:
    """Disable fused operators of a device, which have no cost formula."""
    mkldnn: Any = torch.backends.mkldnn
    mha = torch.backends.mha
    before = mkldnn.enabled, mha.get_fastpath_enabled()
    try:
        # Its ``flags`` use deprecated functions of torch.
        mkldnn.enabled = False
        mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.enabled = before[0]
        mha.set_fastpath_enabled(before[1])


@contextmanager
def _evaluating(*owners: Any) -> Iterator[None]:
    """Disable gradients and compiled code; put modules and owners of methods into evaluation."""
    with _COUNTING:
        modules = [getattr(owner, "__self__", owner) for owner in owners]
        parts = [part for each in modules if isinstance(each, nn.Module) for part in each.modules()]
        training = [part for part in parts if part.training]
        try:
            for part in training:
                part.training = False
            with torch.no_grad(), _uncompiled():
                yield
        finally:
            for part in training:
                part.training = True


def _uncompiled() -> AbstractContextManager[Any]:
    """Ignore that functions are compiled; none are before torch's compiler is imported."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _look(model: Model, state: State) -> State:
    """The state after a look at the centre of a black picture."""
    centre = Look.at(torch.zeros_like(state.location))
    return model.look(model.encode_window(blank_views(model, model.view)), centre, state)


def _last_calls(model: Model) -> dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """The last call of each child of a model in an episode, by the child's name."""
    calls = {}

    def record(name: str, *call: Any) -> None:
        calls[name] = call

    children = model.named_children() if isinstance(model, nn.Module) else ()
    with ExitStack() as hooks:
        for name, child in children:
            hook = functools.partial(record, name)
            hooks.enter_context(child.register_forward_pre_hook(hook, with_kwargs=True))
        step_multiply_adds(model)
    return calls


def _main_shape(inputs: Any) -> tuple[int, ...]:
    """The shape of the first tensor, without the batch."""
    shapes = (leaf.shape for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
    return tuple(next(shapes, ()))[1:]


def _policy_inputs(policy: "Policy", model: Model) -> tuple[Any, ...]:
    """The observation of a black picture, and the policy's memory of it."""
    from gfnet_env.policies.base import shown_to, start

    with _evaluating(model, policy):
        observation = shown_to(policy, model)(blank_state(model))
        return observation, start(policy, _blank_context(model))


def _blank_context(model: Model) -> "Context":
    from gfnet_env.features import LiveFeatures
    from gfnet_env.images.array import ArrayImages
    from gfnet_env.policies.base import Context

    features = LiveFeatures(model, ArrayImages(blank_views(model, glance_view(model))))
    return Context(features, np.zeros(1, dtype=np.int64))
