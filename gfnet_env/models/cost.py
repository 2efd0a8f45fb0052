"""What a prediction costs: multiply-adds, parameters and memory."""

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from gfnet_env.models.base import Model, State, blank_state, blank_views

if TYPE_CHECKING:
    from gfnet_env.models.static import StaticNetwork
    from gfnet_env.policies.base import Context, Policy

# Counting changes settings of the process and modules' modes, so only one thread counts at a time.
_COUNTING = threading.RLock()


@dataclass(frozen=True)
class PartCost:
    """What one part of a model costs for one picture.

    Attributes:
        name: The part.
        input_shape: Shape of its main input, without the batch.
        multiply_adds: Of one call.
        parameters: How many numbers it has learned.
        activation_bytes: Most memory that its input and what it computes take at once.
    """

    name: str
    input_shape: tuple[int, ...]
    multiply_adds: int
    parameters: int
    activation_bytes: int


def count_multiply_adds(function: Callable[..., Any], *inputs: Any, **named: Any) -> int:
    """Multiply-adds of one call: those of convolutions and matrix products; all else is free.

    Args:
        function: A module or function. Modules, also among the inputs, are in evaluation mode
            meanwhile.
        inputs: What to call it with; a batch of one gives the cost of one picture.
        named: Likewise, by name.
    """
    counter = _Operations()
    with _evaluating(function, *inputs), _unfused(), counter:
        function(*inputs, **named)
    # A multiply-add is two operations.
    return counter.total // 2


def count_parameters(part: object) -> int:
    """How many numbers a module has learned; 0 for anything else."""
    return sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0


def peak_activation_bytes(function: Callable[..., Any], *inputs: Any, **named: Any) -> int:
    """Most memory that the inputs and the results of operations take at once during a call.

    Weights are not counted, nor is what an operation allocates and frees within itself.

    Args:
        function: See ``count_multiply_adds``.
        inputs: What to call it with; a batch of one gives the memory of one picture.
        named: Likewise, by name.
    """
    weights: list[Tensor] = []
    if isinstance(function, nn.Module):
        weights = [*function.parameters(), *function.buffers()]
    counter = _LiveBytes({tensor.untyped_storage().data_ptr() for tensor in weights})
    for tensor in tree_leaves((inputs, named)):
        counter.count(tensor)
    with _evaluating(function, *inputs), counter:
        function(*inputs, **named)
    return counter.peak


def part_costs(model: Model, policy: "Policy | None" = None) -> list[PartCost]:
    """The cost of every part at its own input size, for one picture.

    The parts are the policy and those of the model's child modules that it calls. Each counts by
    its last call, the dearest where the cost of looks differs.

    Args:
        model: What sees.
        policy: Who decides where to look, if there is one yet.
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
    """Multiply-adds of one picture's decision where to look."""
    return count_multiply_adds(policy, *_policy_inputs(policy, model))


def start_multiply_adds(policy: "Policy", model: Model) -> int:
    """Multiply-adds of what a policy does with one picture before its first decision."""
    from gfnet_env.policies.base import start

    with _evaluating(model):
        return count_multiply_adds(start, policy, _blank_context(model))


def static_multiply_adds(network: "StaticNetwork") -> int:
    """Multiply-adds of one picture in a static network."""
    side = network.view.size
    views = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=network.device)
    return count_multiply_adds(network, views)


class _Operations(TorchDispatchMode):
    """Sums floating-point operations by torch's own formulas.

    Torch's ``FlopCounterMode`` also tracks modules, by hooks that all threads share.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


class _LiveBytes(TorchDispatchMode):
    """Sums the memory of all tensors that are alive at once."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._ignored = weights
        self._counted: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def count(self, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        if storage in self._counted or storage.data_ptr() in self._ignored:
            return
        self._counted.add(storage)
        size = storage.nbytes()
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self._live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            self.count(result)
        return results


@contextmanager
def _unfused() -> Iterator[None]:
    """Without operators of a device that do much at once, which the counter takes for free."""
    mkldnn: Any = torch.backends.mkldnn
    mha = torch.backends.mha
    before = mkldnn.enabled, mha.get_fastpath_enabled()
    try:
        # Not by its ``flags``, which set and get what torch has deprecated.
        mkldnn.enabled = False
        mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.enabled = before[0]
        mha.set_fastpath_enabled(before[1])


@contextmanager
def _evaluating(*owners: Any) -> Iterator[None]:
    """Without gradients, and with all modules and owners of methods in evaluation mode."""
    with _COUNTING:
        modules = [getattr(owner, "__self__", owner) for owner in owners]
        parts = [part for each in modules if isinstance(each, nn.Module) for part in each.modules()]
        training = [part for part in parts if part.training]
        try:
            for part in training:
                part.training = False
            with torch.no_grad():
                yield
        finally:
            for part in training:
                part.training = True


def _look(model: Model, state: State) -> State:
    """The state after a look at the centre of a black picture."""
    centre = Look.at(torch.zeros_like(state.location))
    return model.look(model.encode_window(blank_views(model)), centre, state)


def _last_calls(model: Model) -> dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Each child of a model that an episode calls, and what with at last, by its name."""
    calls = {}

    def record(name: str, *call: Any) -> None:
        calls[name] = call

    children = model.named_children() if isinstance(model, nn.Module) else ()
    hooks = [
        child.register_forward_pre_hook(functools.partial(record, name), with_kwargs=True)
        for name, child in children
    ]
    try:
        with _evaluating(model):
            state = blank_state(model)
            for _ in range(model.focus_steps):
                state = _look(model, state)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _main_shape(inputs: Any) -> tuple[int, ...]:
    """The shape of the first tensor, without the batch."""
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return tuple(tensors[0].shape[1:]) if tensors else ()


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

    features = LiveFeatures(model, ArrayImages(blank_views(model)))
    return Context(features, np.zeros(1, dtype=np.int64))
