"""Kill processes at every touch of a folder; fill its disk; take away the right to write.

python tests/faults/tiny_faults.py [OPERATION[:N] …] [--out FILE]

Each operation writes into a folder that holds what an earlier one wrote. A forked child does it and
is killed before its first touch of the folder, then before its second, and so on, or before each
N-th. Afterwards readers must find all that was there or all that is new, and doing it again must
complete it.
"""

import argparse
import contextlib
import copy
import hashlib
import io
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Threads do not exist in a forked child.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from gfnet_agents import PolicyConfig, train_policy
from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork, pretrained
from gfnet_env.benchmarks import ComparisonConfig, EvaluationConfig, compare_policies, evaluate
from gfnet_env.checkpoints import Checkpoints
from gfnet_env.export import onnx
from gfnet_env.export.runner import Runner
from gfnet_env.features import CachedFeatures, LiveFeatures
from gfnet_env.files import read_bytes
from gfnet_env.looks import Look
from gfnet_env.policies import CenterPolicy, RandomPolicy
from gfnet_env.training import ClassifierConfig, train_classifier

# A child that is killed at a touch, one that reports the fault, and one that fails otherwise.
KILLED, REPORTED, FAILED = 9, 3, 4
NOBODY = 65534


@dataclass(frozen=True)
class Operation:
    """Something that writes into a folder.

    Attributes:
        begin: Writes what is there before.
        work: What is killed; may be called again.
        read: What readers find, to be compared.
        goes_on: Whether it is a run, of which a part may be there until it is resumed.
        learns: Whether it needs gradients, which torch computes before a fork or after it, not
            both.
    """

    begin: Callable[[Path], Any]
    work: Callable[[Path], Any]
    read: Callable[[Path], Any]
    goes_on: bool = False
    learns: bool = False


def network(seed):
    torch.manual_seed(seed)
    return GlanceFocusNetwork.build(
        encoder="compact:widths=[4,8],strides=[2,2]", patch_size=12, num_classes=3, focus_steps=2
    ).eval()


def gfnet(seed):
    assembled = EarlyExitGFNet(network(seed), CenterPolicy() if seed else RandomPolicy())
    assembled.set_thresholds([0.25 * (1 + seed)] * 3)
    return assembled


# Read here: without rights, it could not be read later.
LEARNED = pretrained("cluttered-digits")


def learned(seed):
    """A network whose policy can be exported."""
    found = copy.deepcopy(LEARNED)
    with torch.no_grad():
        found.model.local_encoder.blocks[0][0].weight.mul_(1 + seed)
    found.set_thresholds([1.0] * 4)
    return found


def images(count=12):
    rng = np.random.default_rng(0)
    return ArrayImages(
        rng.integers(0, 256, (count, 3, 24, 24), dtype=np.uint8), np.arange(count) % 3
    )


def sets():
    return {"train": images(16), "val": images(), "test": images()}


def digest(folder, *names):
    return [hashlib.sha256(read_bytes(folder / name)).hexdigest() for name in names]


def answers(folder):
    found = EarlyExitGFNet.load(folder)(images())
    return [found.classes.tolist(), found.confidence.tolist(), found.exit_step.tolist()]


def exported(folder):
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    found = Runner(folder).classify([picture])
    return [found.confidence.tolist(), found.exit_step.tolist()]


def latest(folder):
    return Checkpoints(folder).load(torch.device("cpu"))["step"]


def served(folder):
    """Whether features from a store are those that the network computes."""
    model, looks = network(0), Look.at(torch.tensor([[0.0, 0.0]] * 12))
    cached = CachedFeatures(model, images(), cells=3, folder=folder)
    live = LiveFeatures(model, images())
    return all(
        torch.allclose(one, other, atol=1e-5)
        for one, other in (
            (cached.overview(np.arange(12)).map, live.overview(np.arange(12)).map),
            (cached.window(np.arange(12), looks).vector, live.window(np.arange(12), looks).vector),
        )
    )


def fill(folder, count=12):
    cached = CachedFeatures(network(0), images(), cells=3, folder=folder)
    cached.fill(np.arange(count), batch_size=16)


def compare(folder, policies):
    gfnet(0).save(folder.with_name("gfnet"))
    compare_policies(
        ComparisonConfig.of(
            run=folder.with_name("gfnet"),
            out=folder,
            policies=policies,
            overwrite=True,
            sheet_images=1,
        ),
        images(),
    )


def measure(folder, budgets):
    gfnet(0).save(folder.with_name("gfnet"))
    evaluate(
        EvaluationConfig.of(
            run=folder.with_name("gfnet"), out=folder, budgets=budgets, overwrite=True
        ),
        sets(),
    )


def stage_1(folder, **changes):
    sizes = {"epochs": 1, "batch_size": 8, "patch_size": 12, "focus_steps": 1}
    torch.manual_seed(0)
    config = ClassifierConfig.of(
        run=folder,
        encoder="compact:widths=[4,8],strides=[2,2]",
        checkpoint_minutes=0.0,
        **sizes,
        **changes,
    )
    train_classifier(config, sets())


def stage_2(folder, **changes):
    sizes = {"timesteps": 16, "num_envs": 4, "curve_points": 1}
    config = PolicyConfig.of(
        run=folder, oracle_images=0, checkpoint_minutes=0.0, seed=3, **sizes, **changes
    )
    train_policy(config, model=network(0), image_sets=sets())


COMPARED = ("results.json", "table.csv", "accuracy.png", "trajectories.png")
MEASURED = ("results.json", "curves.csv", "accuracy.png")
OPERATIONS = {
    "save": Operation(lambda at: gfnet(0).save(at), lambda at: gfnet(1).save(at), answers),
    "save a new folder": Operation(lambda at: None, lambda at: gfnet(1).save(at), answers),
    "export": Operation(
        lambda at: onnx.export_onnx(learned(0), at),
        lambda at: onnx.export_onnx(learned(1), at),
        exported,
    ),
    "checkpoint": Operation(
        lambda at: Checkpoints(at).save(1, {"step": 1}),
        lambda at: Checkpoints(at).save(2, {"step": 2}),
        latest,
    ),
    "cache": Operation(lambda at: fill(at, 4), fill, served),
    "cache a new folder": Operation(lambda at: None, fill, served, goes_on=True),
    "compare": Operation(
        lambda at: compare(at, ("random",)),
        lambda at: compare(at, ("random", "center")),
        lambda at: digest(at, *COMPARED),
    ),
    "evaluate": Operation(
        lambda at: measure(at, 2), lambda at: measure(at, 3), lambda at: digest(at, *MEASURED)
    ),
    "stage 1": Operation(
        lambda at: None,
        lambda at: stage_1(at, resume=True),
        lambda at: digest(at, "network.safetensors", "results.json"),
        goes_on=True,
        learns=True,
    ),
    "stage 2": Operation(
        lambda at: None,
        lambda at: stage_2(at, resume=True),
        lambda at: digest(at, "policy.safetensors", "curve.json", "accuracy.png"),
        goes_on=True,
        learns=True,
    ),
}


def found(operation, folder):
    """What readers find, or that they find nothing."""
    try:
        return operation.read(folder)
    except FileNotFoundError:
        return None


def child(work, before=lambda: None):
    """The exit code of a process that does some work, and what it printed of an error."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 0
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                before()
                work()
            except OSError as error:
                code = REPORTED if "cannot write" in str(error) else FAILED
                os.write(writing, traceback.format_exc()[-60_000:].encode())
            except BaseException:
                code = FAILED
                os.write(writing, traceback.format_exc()[-60_000:].encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text


def kill_before(touch, folder):
    """Kill this process before it touches a folder once more than so often."""
    left = itertools.count(touch, -1)

    def hook(event, arguments):
        touches = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if event == "open":
            touches = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if touches and str(arguments[0]).startswith(str(folder)) and next(left) == 0:
            os._exit(KILLED)

    sys.addaudithook(hook)


def limit_files(size):
    """Let no file grow beyond some bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drop_rights(folder):
    """Let a folder, and the one around it, be read only."""
    for path in (folder.parent, *folder.parent.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)


class Trials:
    """The trials of one operation.

    Args:
        operation: What is tried.
        room: An empty folder for its folders.
    """

    def __init__(self, operation, room):
        self.operation, self.room = operation, room
        self.begun = self._copy(None, "begun")
        operation.begin(self.begun)
        self.old = found(operation, self.begun)
        done = self._copy(self.begun, "done")
        self._work(done)
        self.new = found(operation, done)
        assert self.new is not None

    def kills(self, every):
        """How many kills left what was old, what is new, and something else."""
        counts = Counter()
        for touch in itertools.count(0, every):
            folder = self._copy(self.begun, "trial")
            code, said = child(
                lambda at=folder: self.operation.work(at),
                lambda at=folder, touch=touch: kill_before(touch, at),
            )
            if code == 0:
                break
            assert code == KILLED, said
            counts["kills"] += 1
            counts[self._state(folder)] += 1
            self._complete(folder)
        return counts

    def full_disks(self):
        """How many limits were kept to, and reported."""
        counts = Counter()
        for size in (0, 100, 1_000, 10_000, 100_000):
            counts[self._refused(lambda at, size=size: limit_files(size))] += 1
        return counts

    def read_only(self):
        """What comes of a folder that cannot be written."""
        return Counter([self._refused(drop_rights)])

    def _refused(self, fault):
        folder = self._copy(self.begun, "trial")
        code, said = child(lambda: self.operation.work(folder), lambda: fault(folder))
        if code == FAILED:
            print(said, file=sys.stderr)
            return "not reported"
        state = self._state(folder)
        for path in (folder.parent, *folder.parent.rglob("*")):
            path.chmod(0o755)
        self._complete(folder)
        return {0: "done", REPORTED: f"reported, {state}"}[code]

    def _state(self, folder):
        now = found(self.operation, folder)
        if now == self.new:
            return "new"
        if now == self.old or (self.operation.goes_on and now is None):
            return "old"
        return "part" if self.operation.goes_on else "mixed"

    def _work(self, folder):
        if not self.operation.learns:
            # Here, so that trials find what it reads in memory.
            self.operation.work(folder)
            return
        code, said = child(lambda: self.operation.work(folder))
        assert code == 0, said

    def _complete(self, folder):
        self._work(folder)
        assert found(self.operation, folder) == self.new, "doing it again gives something else"
        left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
        assert not left, left

    def _copy(self, source, name):
        folder = self.room / name / "folder"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir(parents=True)
        if source is not None and source.exists():
            shutil.copytree(source, folder)
        return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--out", type=Path, help="operations are added to those that it holds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Graphs are made once.
    onnx._graph = graphs(onnx._graph)
    # Read while all can be read.
    sources = onnx._sources()
    onnx._sources = lambda: sources
    out, table = arguments.out, {}
    if out is not None and out.exists():
        table = json.loads(out.read_text())
    for given in arguments.operations:
        name, _, every = given.partition(":")
        with tempfile.TemporaryDirectory() as room:
            # Others must be able to read it.
            Path(room).chmod(0o755)
            with contextlib.redirect_stdout(io.StringIO()):
                trials = Trials(OPERATIONS[name], Path(room))
                table[name] = {
                    "kills": trials.kills(int(every or 1)),
                    "full disks": trials.full_disks(),
                    "read only": trials.read_only(),
                }
        print(name, json.dumps(table[name]), flush=True)
        if out is not None:
            out.write_text(json.dumps(table, indent=2) + "\n")


def graphs(make):
    """``make``, of which the first results are kept."""
    kept = {}

    def made(name, module, inputs):
        weights = io.BytesIO()
        torch.save(module.state_dict(), weights)
        key = name, hashlib.sha256(weights.getvalue()).hexdigest()
        if key not in kept:
            kept[key] = make(name, module, inputs)
        return kept[key]

    return made


if __name__ == "__main__":
    main()
