"""Use another active-vision network: CanViT (arXiv:2603.22570; pip install canvit-pytorch)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from canvit_core.backbone import BACKBONES, ViTSpec
from canvit_pytorch import CanViTConfig, CanViTForImageClassification, RecurrentState, Viewpoint
from canvit_pytorch.preprocess import imagenet_normalize
from stable_baselines3 import PPO
from torch import Tensor, nn

from gfnet_agents.learners.sb3 import StableBaselinesVecEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.looks import Look, ViewConfig
from gfnet_env.models import State, TrainingData, step_multiply_adds

BACKBONES["tiny"] = ViTSpec(embed_dim=64, num_heads=2, num_blocks=2, patch_size=8)


@dataclass(frozen=True, kw_only=True)
class CanvasState(State):
    """A state that holds CanViT's canvas."""

    memory: RecurrentState


class CanViT(nn.Module):
    """CanViT as a ``Model`` for scenes of digits, with random weights."""

    view, num_classes, focus_steps, class_names = ViewConfig(size=32), 10, 3, None
    trained_on = TrainingData(images="cluttered-digits", image_size=128)

    def __init__(self) -> None:
        super().__init__()
        config = CanViTConfig("tiny", canvas_num_heads=2, canvas_head_dim=16, rw_stride=1)
        self.network = CanViTForImageClassification(canvit_config=config, n_classes=10)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode_overview(self, views: Tensor, normalised: bool = False) -> Tensor:
        return views if normalised else imagenet_normalize(views / 255)

    encode_window = encode_overview

    def begin(self, features: Tensor, sizes: Tensor) -> CanvasState:
        memory = self.network.init_state(batch_size=len(sizes), canvas_grid_size=4)
        whole = Look.at(0.0 * sizes, sizes.amax(dim=1) / self.view.size)
        known = {"number": sizes[:, 0] * 0 - 1, "size": sizes, "logits": whole.location}
        known |= {"location": whole.location, "scale": whole.scale}
        return self.look(features, whole, CanvasState(**known, memory=memory))

    def look(self, features: Tensor, looks: Look, state: Any) -> CanvasState:
        first, last = self.view.window_boxes(looks, state.size).split(2, dim=1)
        where = Viewpoint((first + last) / state.size - 1, ((last - first) / state.size)[:, 0])
        logits, memory = self.network(glimpse=features, state=state.memory, viewpoint=where)
        known = {"logits": logits, "location": looks.location, "scale": looks.scale}
        return replace(state, **known, number=state.number + 1, memory=memory)

    def multiply_adds(self) -> list[int]:
        return step_multiply_adds(self)


def canvas(state: Any) -> dict[str, Tensor]:
    """An observation: the tokens of the canvas."""
    return {"canvas": state.memory.canvas}


def main(timesteps: int = 2_000, seed: int = 0) -> PPO:
    """Learn where CanViT looks."""
    torch.manual_seed(seed)
    env = GlanceFocusVectorEnv(16, model=CanViT(), observation=canvas, autoreset_mode="SameStep")
    agent = PPO("MultiInputPolicy", StableBaselinesVecEnv(env), n_steps=12, seed=seed, verbose=1)
    return agent.learn(timesteps)


if __name__ == "__main__":
    main()
