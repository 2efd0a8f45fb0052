"""Cluttered translated MNIST on a 100×100 canvas, against "Recurrent Models of Visual Attention".

python experiments/recipes/ram100.py --run runs/ram100 --out experiments/results/ram100
"""

from pathlib import Path
from typing import Any

from gfnet_agents import PipelineConfig, PolicySchedule
from gfnet_agents.study import Study, StudyOptions, run_study
from gfnet_env.command_line import parse
from gfnet_env.training import BaselineConfig, ClassifierSchedule

_SHARED: dict[str, Any] = {
    # Each digit occurs four times, at another place among other pieces.
    "images": "cluttered-mnist-100:train=216000",
    "encoder": "compact-deep",
    "precision": "bfloat16",
    "run": Path(),  # The study says where.
}
_SCHEDULE: dict[str, Any] = {"epochs": 1, "batch_size": 128, "learning_rate": 2e-3}

STUDY = Study(
    title="Cluttered translated MNIST, 100×100",
    static=BaselineConfig.of(resolutions=(24, 100), **_SCHEDULE, **_SHARED),
    gfnets=(
        PipelineConfig.of(
            # As many pixels as four scales of 12×12.
            patch_size=24,
            focus_steps=6,
            object_share=0.5,
            stage1=ClassifierSchedule(**_SCHEDULE),
            stage2=PolicySchedule(timesteps=160_000),
            stage3=ClassifierSchedule(**_SCHEDULE | {"learning_rate": 1e-3}),
            **_SHARED,
        ),
    ),
    published={
        "RAM, 4 / 6 / 8 glimpses of 12×12 at 4 scales (arXiv v1)": "14.95 / 11.58 / 10.83%",
        "its convolutional network on the whole image": "16.51%",
        "a later convolutional network on the whole image, trained long": "0.92 to 1.69%",
    },
)

if __name__ == "__main__":
    run_study(STUDY, parse(StudyOptions, __doc__))
