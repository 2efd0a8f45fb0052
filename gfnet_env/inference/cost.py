"""What a prediction costs: multiply-adds, parameters and memory."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gfnet_env.env.observation import Observation, observe
from gfnet_env.perception import GlanceFocusNetwork, StaticNetwork
from gfnet_env.policies.base import Policy, Scene, State, initial_state


@dataclass(frozen=True)
class PartCost:
    """What one part of a network costs for one image.

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


def count_multiply_adds(module: nn.Module | Callable[..., Any], *inputs: Any) -> int:
    """Multiply-adds of one call; of convolutions and matrix products, all else is free.

    Args:
        module: What to call; a module is put into evaluation mode meanwhile.
        inputs: What to call it with; a batch of one gives the cost of one image.
    """
    with _evaluating(module), _unfused(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    # The counter takes a multiply-add for two operations.
    return counter.get_total_flops() // 2


def count_parameters(module: nn.Module | Callable[..., Any]) -> int:
    """How many numbers a module has learned; none, if it is no module."""
    return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else 0


def peak_activation_bytes(module: nn.Module | Callable[..., Any], *inputs: Any) -> int:
    """Most memory that the inputs and the results of operations take at once during a call.

    Weights are not counted, nor is what an operation takes and gives back within itself.

    Args:
        module: What to call; a module is put into evaluation mode meanwhile.
        inputs: What to call it with; a batch of one gives the memory of one image.
    """
    weights = (
        itertools.chain(module.parameters(), module.buffers())
        if isinstance(module, nn.Module)
        else ()
    )
    counter = _LiveBytes({tensor.untyped_storage().data_ptr() for tensor in weights})
    for tensor in tree_leaves(inputs):
        counter.count(tensor)
    with _evaluating(module), counter:
        module(*inputs)
    return counter.peak


def part_costs(network: GlanceFocusNetwork, policy: Policy | None = None) -> list[PartCost]:
    """The cost of every part at its own input size, for one image.

    A classifier whose steps differ in cost counts with its last, the dearest.

    Args:
        network: What sees.
        policy: Who picks the patch, if there is one yet.
    """
    image = _blank_image(network)
    with _evaluating(network):
        step = network.glance(image)
    last = torch.full_like(step.number, network.focus_steps)
    parts: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("global encoder", network.global_encoder, (image,)),
        ("local encoder", network.local_encoder, (image,)),
        ("classifier", network.classifier, (step.vector, step.memory, last)),
    ]
    if policy is not None:
        parts.append(("policy", policy, _policy_inputs(policy, network)))
    return [
        PartCost(
            name=name,
            input_shape=tuple(tree_leaves(inputs)[0].shape[1:]),
            multiply_adds=count_multiply_adds(part, *inputs),
            parameters=count_parameters(part),
            activation_bytes=peak_activation_bytes(part, *inputs),
        )
        for name, part, inputs in parts
    ]


def step_multiply_adds(network: GlanceFocusNetwork) -> list[int]:
    """Multiply-adds of one image's glance and of each of its focus steps, without a policy."""
    image = _blank_image(network)
    costs = [count_multiply_adds(network.glance, image)]
    with _evaluating(network):
        step = network.glance(image)
        for _ in range(network.focus_steps):
            centre = torch.zeros_like(step.location)
            costs.append(count_multiply_adds(network.focus, image, centre, step))
            step = network.focus(image, centre, step)
    return costs


def policy_multiply_adds(policy: Policy, network: GlanceFocusNetwork) -> int:
    """Multiply-adds of one image's pick of a patch."""
    return count_multiply_adds(policy, *_policy_inputs(policy, network))


def start_multiply_adds(policy: Policy, network: GlanceFocusNetwork) -> int:
    """Multiply-adds of what a policy does with one image before its first pick."""
    return count_multiply_adds(lambda: initial_state(policy, _blank_scene(network)))


def static_multiply_adds(network: StaticNetwork) -> int:
    """Multiply-adds of one image in a static network."""
    side = network.config.resolution
    return count_multiply_adds(network, torch.zeros(1, 3, side, side, device=network.device).byte())


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
    """Without the operators of a device that do much at once: the counter takes them for free."""
    mkldnn: Any = torch.backends.mkldnn
    mha = torch.backends.mha
    before = mkldnn.enabled, mha.get_fastpath_enabled()
    # Not by its ``flags``, which set and get what torch has deprecated.
    mkldnn.enabled = False
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.enabled = before[0]
        mha.set_fastpath_enabled(before[1])


@contextmanager
def _evaluating(module: nn.Module | Callable[..., Any]) -> Iterator[None]:
    """Without gradients and, if it is a module or a method of one, in evaluation mode."""
    owner = getattr(module, "__self__", module)
    parts = list(owner.modules()) if isinstance(owner, nn.Module) else []
    training = [part for part in parts if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


def _policy_inputs(policy: Policy, network: GlanceFocusNetwork) -> tuple[Observation, State]:
    scene = _blank_scene(network)
    with _evaluating(network):
        observation = observe(network.glance(scene.pixels), network.focus_steps)
    return observation, initial_state(policy, scene)


def _blank_scene(network: GlanceFocusNetwork) -> Scene:
    return Scene(network, _blank_image(network), np.zeros(1, dtype=np.int64))


def _blank_image(network: GlanceFocusNetwork) -> Tensor:
    """A black image of the size of a patch."""
    shape = (1, 3, network.patch_size, network.patch_size)
    return torch.zeros(shape, dtype=torch.uint8, device=network.device)
