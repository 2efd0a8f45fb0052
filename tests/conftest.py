"""Small real parts: scanned digits, a tiny network, and the one that comes with the package."""

import copy
import dataclasses
import functools
import hashlib
import os
import pickle
import signal
import sys
import threading

# Tests share the cores as processes: threads that wait must not spin. OpenMP reads it when loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import numpy as np
import pytest
import torch
from onnx import ModelProto

import gfnet_env
from gfnet_env.allocator import keep_freed_memory
from gfnet_env.export import onnx
from gfnet_env.files import write_bytes
from gfnet_env.images import ImageSet, load_images
from gfnet_env.models import TrainingData

# Tests do not depend on how fast the machine is.
hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.load_profile("default")

DIGITS = "cluttered-digits:scenes=40"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Tests share the cores as processes.
    torch.set_num_threads(1)
    keep_freed_memory()


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory):
    """Exports trace only what none before them has traced, in any process: tracing is slow."""
    trace, folder = onnx._graph, tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def graph(name, module, given):
        path = folder / f"{_digest(module, given)}.onnx"
        if not path.exists():
            _build_operators_once()
            write_bytes(path, trace(name, module, given).SerializeToString())
        return ModelProto.FromString(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "_graph", graph)
        yield


@functools.cache
def _build_operators_once():
    """Keep torch's table of operators, which it builds anew for each graph, for a fifth of it."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


def _digest(part, given):
    """Of all that makes a graph: modules, settings, weights, and the types of inputs."""
    types = [(name, each.dtype, each.shape) for name, each in given.items()]
    weights = [(name, each.numpy()) for name, each in part.state_dict().items()]
    return hashlib.sha256(pickle.dumps((types, weights, _kinds(part)))).hexdigest()


def _kinds(part):
    """What is no weight, of each module."""
    others = ("certainty", "kind", "view")
    return [
        (name, type(each), _settings(each), *(getattr(each, other, None) for other in others))
        for name, each in part.named_modules()
    ]


def _settings(module):
    config = getattr(module, "config", None)
    # What it was trained on is in no graph.
    untold = hasattr(config, "trained_on")
    return dataclasses.replace(config, trained_on=TrainingData()) if untold else config


def _devices() -> list[str]:
    """All that this machine has."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(name for name, is_here in has.items() if is_here)]


@pytest.fixture(params=_devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture
def forked():
    """Runs a function in a forked process; its exit status, which is 0 if nothing was wrong."""

    def run(work):
        child = os.fork()
        if child == 0:
            # A process that waits for what it does not have is ended.
            signal.alarm(20)
            try:
                work()
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run


@pytest.fixture
def serving():
    """Runs HTTP servers beside the test; the address of one."""
    running = []

    def serve(server):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def digits() -> ImageSet:
    """Forty test scenes of 128×128."""
    return load_images(DIGITS, "test")


@pytest.fixture(scope="session")
def _packaged() -> gfnet_env.GlanceFocusNetwork:
    return gfnet_env.pretrained("cluttered-digits").model


@pytest.fixture
def network(_packaged: gfnet_env.GlanceFocusNetwork) -> gfnet_env.GlanceFocusNetwork:
    """The trained network of the package: 32×32 patches, ten classes, three focus steps."""
    # A tenth of the time of loading it.
    return copy.deepcopy(_packaged)


@pytest.fixture
def tiny_network() -> gfnet_env.GlanceFocusNetwork:
    """An untrained network with 16×16 patches, five classes and two focus steps."""
    torch.manual_seed(0)
    return gfnet_env.GlanceFocusNetwork.build(
        encoder="compact", patch_size=16, num_classes=5, focus_steps=2
    ).eval()


@pytest.fixture
def tiny_images() -> gfnet_env.ArrayImages:
    """Twelve images of noise, 24×32, five classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 24, 32), dtype=np.uint8)
    return gfnet_env.ArrayImages(pixels, np.arange(12) % 5)
