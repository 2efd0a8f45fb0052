"""Calibrate an assembled network on some images: thresholds, budgets and times."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional

from gfnet_env.evaluation import evaluate_policy
from gfnet_env.exits import ExpectedGain, fit_gain
from gfnet_env.exits.thresholds import NEVER
from gfnet_env.images import ImageSet
from gfnet_env.inference.budgets import BudgetTable, LatencyTable, Method, exit_costs, solve_budgets
from gfnet_env.inference.early_exit import EarlyExitGFNet, Pixels
from gfnet_env.models import GlanceFocusNetwork, Model
from gfnet_env.models.base import blank_state
from gfnet_env.policies.base import Policy
from gfnet_env.timing import median_seconds

# Images to fit temperatures on, and their range.
_ENOUGH = 5000
_TEMPERATURES = (0.01, 100.0)


def assemble(
    model: Model, policy: Policy, images: ImageSet, batch_size: int = 256
) -> EarlyExitGFNet:
    """Assemble and calibrate a network, with the thresholds of ``BudgetTable.cheapest``.

    Args:
        model: The model.
        policy: Decides where to look.
        images: See ``calibrate``.
        batch_size: Images per batch.
    """
    gfnet = EarlyExitGFNet(model, policy)
    table = calibrate(gfnet, images, batch_size=batch_size)
    gfnet.set_thresholds(table.cheapest().thresholds)
    return gfnet


@torch.inference_mode(mode=False)
@torch.enable_grad()
def learn_certainty(gfnet: EarlyExitGFNet, images: ImageSet, batch_size: int = 256) -> None:
    """Set ``gfnet.certainty`` to an ``ExpectedGain`` that is fitted on some images.

    Thresholds on another certainty mean something else: call ``calibrate`` afterwards.

    Args:
        gfnet: All else stays as it is.
        images: See ``calibrate``.
        batch_size: Images per batch.

    Raises:
        ValueError: The policy stops at every glance.
    """
    model = gfnet.model
    sees_heat = getattr(blank_state(model), "heat", None) is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gain = ExpectedGain(model.num_classes, model.focus_steps, sees_heat).to(model.device)
    record = evaluate_policy(model, gfnet.policy, images, batch_size=batch_size, signal=gain.known)
    fit_gain(gain, record.signal, record.label_confidence, record.looks)
    gfnet.certainty = gain


def fit_temperatures(gfnet: EarlyExitGFNet, images: ImageSet, batch_size: int = 256) -> None:
    """Fit a temperature for each step, so that confidence means accuracy (Guo et al., 2017).

    Classes stay as they are, but confidences change: call ``calibrate`` afterwards.

    Args:
        gfnet: Its model's temperatures are set.
        images: See ``calibrate``; a few thousand of them, evenly spread, are enough.
        batch_size: Images per batch.

    Raises:
        ValueError: The model is no ``GlanceFocusNetwork``.
    """
    model = gfnet.model
    if not isinstance(model, GlanceFocusNetwork):
        raise ValueError(f"only a GlanceFocusNetwork has temperatures, not {type(model).__name__}")
    before = model.config.temperatures
    model.set_temperatures(())
    try:
        record = evaluate_policy(
            *(model, gfnet.policy, images),
            indices=slice(None, None, max(1, len(images) // _ENOUGH)),
            batch_size=batch_size,
            signal=lambda state: state.logits,
        )
    except BaseException:
        model.set_temperatures(before)
        raise
    labels = images.labels[torch.from_numpy(record.indices)]
    logits, looks = torch.from_numpy(record.signal), torch.from_numpy(record.looks)
    temperatures = []
    for step in range(logits.shape[1]):
        # A policy that stops may leave few images, or none, to fit the last steps on.
        there = looks >= step
        if there.any():
            temperatures.append(_temperature(logits[there, step], labels[there]))
    model.set_temperatures(temperatures)


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of logits (N, K) with the lowest cross-entropy against labels (N,)."""
    # Only here: most of the library does without it, and it is slow to import.
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return float(functional.cross_entropy(logits / math.exp(log), labels))

    bounds = [math.log(each) for each in _TEMPERATURES]
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def calibrate(
    gfnet: EarlyExitGFNet, images: ImageSet, method: Method = "geometric", batch_size: int = 256
) -> BudgetTable:
    """Solve thresholds for mean costs over the whole range, and set ``gfnet.budgets``.

    Args:
        gfnet: Its thresholds and its certainty stay as they are.
        images: A split that neither the model nor the policy was trained on.
        method: See ``solve_budgets``.
        batch_size: Images per batch.

    Raises:
        ValueError: The method is unknown.
    """
    record = evaluate_policy(
        gfnet.model, gfnet.policy, images, batch_size=batch_size, signal=gfnet.certainty
    )
    costs = exit_costs(record.looks, gfnet.multiply_adds, gfnet.stop_multiply_adds)
    gfnet.budgets = solve_budgets(record, costs, method)
    return gfnet.budgets


def measure_latency(gfnet: EarlyExitGFNet, images: Pixels, repeats: int = 5) -> LatencyTable:
    """Time an exit at each step on the network's device, and set ``gfnet.latency``.

    Args:
        gfnet: Its thresholds stay as they are, at any time.
        images: A batch with the number and size of images to expect later.
        repeats: How often each exit is timed; the median is used.

    Raises:
        ValueError: There are no images, or ``repeats`` is below 1.
    """
    count = len(gfnet(images).classes)
    if count == 0:
        raise ValueError("there is nothing to time; give a batch of at least one image")
    device, steps = gfnet.model.device, len(gfnet.thresholds)
    # A copy has thresholds of its own, so that calls beside this one exit as before.
    timed = copy.copy(gfnet)
    medians = []
    for last in range(steps):
        timed.set_thresholds([NEVER] * last + [0.0] * (steps - last))
        medians.append(median_seconds(lambda: timed(images), device, repeats))
    milliseconds = tuple(1e3 * seconds / count for seconds in medians)
    gfnet.latency = LatencyTable(milliseconds, device)
    return gfnet.latency
