"""Cluttered translated MNIST on a 60×60 canvas, against "Recurrent Models of Visual Attention".

python experiments/recipes/ram60.py --run runs/ram60 --out experiments/results/ram60
"""

from pathlib import Path
from typing import Any

from gfnet_agents import PipelineConfig, PolicySchedule
from gfnet_agents.study import Study, StudyOptions, run_study
from gfnet_env.command_line import parse
from gfnet_env.training import BaselineConfig, ClassifierSchedule

_SHARED: dict[str, Any] = {
    # Each digit occurs six times, at another place among other pieces.
    "images": "cluttered-mnist-60:train=324000",
    "encoder": "compact-deep",
    "precision": "bfloat16",
    "run": Path(),  # The study says where.
}
_SCHEDULE: dict[str, Any] = {"epochs": 1, "batch_size": 128, "learning_rate": 2e-3}


def _gfnet(patch_size: int) -> PipelineConfig:
    return PipelineConfig.of(
        patch_size=patch_size,
        focus_steps=4,
        object_share=0.5,
        stage1=ClassifierSchedule(**_SCHEDULE),
        stage2=PolicySchedule(timesteps=160_000),
        stage3=ClassifierSchedule(**_SCHEDULE | {"learning_rate": 1e-3}),
        **_SHARED,
    )


STUDY = Study(
    title="Cluttered translated MNIST, 60×60",
    static=BaselineConfig.of(resolutions=(12, 20, 60), **_SCHEDULE, **_SHARED),
    # Three scales of 12×12 are 432 pixels, 20×20 are 400.
    gfnets=(_gfnet(20), _gfnet(12)),
    published={
        "RAM, 4 / 6 / 8 glimpses of 12×12 at 3 scales (NIPS 2014)": "4.96 / 4.08 / 4.04%",
        "the same, 8 random glimpses": "14.4%",
        "its convolutional network on the whole image": "8.09%",
        "RAM, a later reproduction": "5.15 / 3.33 / 2.63%",
    },
)

if __name__ == "__main__":
    run_study(STUDY, parse(StudyOptions, __doc__))
