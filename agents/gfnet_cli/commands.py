"""The subcommands of ``gfnet``."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: Its name.
        summary: What it does, in a line.
        function: ``module:NAME`` of the function that it calls with its settings, whose class is
            the annotation of the first parameter.
        first: Settings that are set most often, most used first, which ``--help`` lists.
        examples: Arguments that show its use.
        notes: More about it, for ``--help``.
        plan: ``module:NAME`` of a function from its settings to a ``Plan``, for ``--dry-run``.
        recipes: Whether ``--recipe`` completes its settings.
    """

    name: str
    summary: str
    function: str
    first: Sequence[str] = ()
    examples: Sequence[str] = ("",)
    notes: str = ""
    plan: str = ""
    recipes: bool = False


_FOLDER = "--images folder:PATH --encoder tf_efficientnet_lite0 --weights pretrained"

GROUPS: dict[str, Sequence[Command]] = {
    "train": (
        Command(
            "train",
            "all three stages and the evaluation in sequence",
            "gfnet_agents.pipeline:train_gfnet",
            (
                "images",
                "encoder",
                "weights",
                "patch_size",
                "focus_steps",
                "stage2.algorithm",
                "device",
                "resume",
            ),
            ("--run runs/gfnet", f"{_FOLDER} --recipe photographs --run runs/photos"),
            "Interrupted, it goes on with --resume. A stage's schedule is --stage1.epochs,\n"
            "--stage2.timesteps, --stage3.epochs, …",
            plan="gfnet_agents.pipeline:plan_gfnet",
            recipes=True,
        ),
        Command(
            "train-baseline",
            "static networks of several resolutions, to compare with",
            "gfnet_env.training:train_baselines",
            ("images", "encoder", "weights", "resolutions", "epochs", "batch_size", "device"),
            (
                "--epochs 4 --run runs/digits-static",
                f"{_FOLDER} --resolutions 96 128 160 224 --run runs/photos-static",
            ),
            plan="gfnet_env.training:plan_baselines",
            recipes=True,
        ),
        Command(
            "train-classifier",
            "stages 1 and 3: encoders and classifier",
            "gfnet_env.training:train_classifier",
            (
                "images",
                "encoder",
                "weights",
                "patch_size",
                "focus_steps",
                "epochs",
                "policy",
                "device",
            ),
            (
                "--run runs/classifier",
                f"{_FOLDER} --patch-size 96 --run runs/classifier",
                "--policy runs/policy --run runs/finetuned",
            ),
            "Several GPUs or machines:\n"
            "  accelerate launch --num_processes 8 -m gfnet_cli train-classifier --run RUN",
            plan="gfnet_env.training:plan_classifier",
            recipes=True,
        ),
        Command(
            "train-policy",
            "stage 2: where to look; assembles the network",
            "gfnet_agents.training:train_policy",
            ("run", "network", "images", "algorithm", "actions", "reward", "timesteps", "device"),
            (
                "",
                "--algorithm sac:gradient_steps=4 --timesteps 20000",
                "--algorithm maskable-ppo --actions grid:cells=9+stop",
                "--network runs/classifier --run runs/policy",
                "--continue-from runs/policy --sampling uncertain --run runs/more",
                "--algorithm module:LEARNER:key=value",
            ),
            plan="gfnet_agents.training:plan_policy",
            recipes=True,
        ),
        Command(
            "tune",
            "search the settings of a stage for the best accuracy",
            "gfnet_agents.tuning:tune",
            (
                "search",
                "trials",
                "stage",
                "network",
                "images",
                "stage2.algorithm",
                "stage2.timesteps",
                "resume",
            ),
            (
                "--stage2.algorithm ddpg --trials 40 --run runs/tuned",
                "--search learning_rate=1e-4..1e-2 n_steps=[6,12,24] --run runs/tuned",
                "--stage classifier --images folder:PATH --run runs/tuned",
            ),
            "The best settings go back in: gfnet train-policy --config runs/tuned/best.yaml\n"
            "With --resume it goes on; several processes may do so at once.",
        ),
    ),
    "use": (
        Command(
            "classify",
            "classify pictures; draw where the network looked",
            "gfnet_env.commands.classify:classify",
            ("csv", "top_k", "skip_unreadable", "picture", "multiply_adds", "image_size", "device"),
            (
                "PICTURE [FOLDER ...] --run runs/photos --picture looked.png",
                "FOLDER --run runs/photos --csv answers.csv --top-k 3 --skip-unreadable",
            ),
            plan="gfnet_env.commands.classify:plan_classify",
        ),
        Command(
            "calibrate",
            "solve a network's table of budgets again",
            "gfnet_env.commands.calibrate:calibrate_run",
            ("method", "certainty", "focus_steps", "images", "device"),
            ("--run runs/policy --method searched",),
            plan="gfnet_env.commands.calibrate:plan_calibrate",
        ),
        Command(
            "export",
            "export to ONNX, with a script that needs no torch",
            "gfnet_env.commands.export:export",
            ("multiply_adds", "overwrite"),
            ("--run runs/policy --out exported",),
            "What it writes runs by: python exported/classify.py PICTURE",
        ),
        Command(
            "demo",
            "a page that runs a network in a browser",
            "gfnet_env.commands.demo:demo",
            ("out", "examples", "port", "images", "overwrite"),
            ("--run runs/policy", "--run runs/policy --out site/demo --no-serve"),
        ),
        Command(
            "push",
            "upload a network to the Hugging Face Hub, with a card",
            "gfnet_env.commands.hub:push",
            ("license", "private"),
            ("USER/NAME --run runs/policy --license mit",),
            "Log in first: hf auth login",
        ),
        Command(
            "pull",
            "download a network from the Hugging Face Hub",
            "gfnet_env.commands.hub:pull",
            ("revision", "overwrite"),
            ("USER/NAME --run runs/theirs",),
        ),
    ),
    "compare": (
        Command(
            "evaluate",
            "accuracy against cost: anytime, budgeted, static",
            "gfnet_env.benchmarks:evaluate",
            ("run", "baseline", "images", "official", "out", "budgets", "device", "overwrite"),
            (
                "--run runs/policy --baseline runs/digits-static",
                "--official CHECKPOINT.pth.tar --images folder:IMAGENET",
            ),
            plan="gfnet_env.benchmarks.curves:plan_evaluate",
        ),
        Command(
            "compare-policies",
            "policies: accuracy, gains, windows on the object",
            "gfnet_env.benchmarks:compare_policies",
            ("policies", "images", "masks", "oracle_images", "out", "device", "overwrite"),
            ("--run runs/policy", "--run runs/policy --policies random learned saliency"),
            plan="gfnet_env.benchmarks.policies:plan_policies",
        ),
        Command(
            "compare-algorithms",
            "learners, with several seeds each",
            "gfnet_agents:compare_algorithms",
            ("algorithms", "seeds", "network", "images", "stage2.timesteps", "device", "resume"),
            ("--algorithms ppo a2c sac:ent_coef=0.1 --seeds 3 --run runs/algorithms",),
            plan="gfnet_agents.comparison:plan_algorithms",
            recipes=True,
        ),
        Command(
            "leaderboard",
            "all policies and learners on the standard tasks",
            "gfnet_agents.leaderboard:leaderboard",
            ("tasks", "algorithms", "seeds", "run", "out", "data_root", "device"),
            (
                "--run runs/leaderboard --out results",
                "--algorithms module:LEARNER --run runs/mine --out results",
            ),
            "What results.json in --out holds already stays as it is.",
        ),
        Command(
            "compare-exits",
            "ways to stop looking, at equal cost",
            "gfnet_env.benchmarks:compare_exits",
            ("images", "budgets", "out", "device", "overwrite"),
            ("--run runs/policy",),
            plan="gfnet_env.benchmarks.exits:plan_exits",
        ),
    ),
    "measure": (
        Command(
            "count-cost",
            "multiply-adds, parameters and memory of every part",
            "gfnet_env.commands.count_cost:count_cost",
            examples=("--run runs/policy",),
        ),
        Command(
            "measure-latency",
            "wall time per image, in torch and ONNX Runtime",
            "gfnet_env.benchmarks:measure_latency",
            ("baseline", "engines", "batch_sizes", "threads", "budgets", "repeats", "out"),
            examples=("--run runs/policy --baseline runs/digits-static",),
            notes="First: evaluate --run runs/policy --baseline runs/digits-static",
        ),
        Command(
            "measure-memory",
            "peak memory at several image resolutions",
            "gfnet_env.benchmarks:measure_memory",
            examples=("--run runs/photos-policy",),
        ),
        Command(
            "measure-scale",
            "time and memory as pictures, sides and classes grow",
            "gfnet_env.benchmarks:measure_scale",
            examples=("--out scale.json",),
        ),
        Command(
            "benchmark",
            "environment steps per second",
            "gfnet_agents.throughput:benchmark",
            (
                "encoder",
                "patch_size",
                "image_size",
                "num_envs",
                "repeats",
                "threads",
                "out",
                "device",
            ),
            ("", "--encoder tf_efficientnet_lite0 --patch-size 96 --image-size 224"),
        ),
        Command(
            "soak",
            "long use: memory, open files and threads stay flat",
            "gfnet_env.benchmarks:soak",
            examples=("--out results/soak",),
        ),
    ),
    "prepare": (
        Command(
            "cache-features",
            "compute what --features cached uses",
            "gfnet_env.features.filling:cache_features",
            ("network", "images", "split", "cells", "scales", "cache", "precision", "device"),
            (
                "",
                "--network runs/photos --split train --precision bfloat16",
                "--cells 7 --scales 1 2 4",
            ),
        ),
        Command(
            "check-backbones",
            "build, train, save and load networks of encoders",
            "gfnet_env.commands.check_backbones:check_backbones",
            examples=("", "--encoders resnet18 vit_tiny_patch16_224:depth=2"),
        ),
        Command(
            "package-network",
            "put a network where pretrained() finds it",
            "gfnet_agents.packaging:package_network",
            examples=("--run runs/policy --name cluttered-digits",),
        ),
    ),
}

COMMANDS = {command.name: command for group in GROUPS.values() for command in group}
