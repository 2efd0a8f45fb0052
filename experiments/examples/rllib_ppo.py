"""Learn where to look with the PPO of RLlib, and assemble the early-exit network.

python experiments/examples/rllib_ppo.py
"""

import argparse

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from gfnet_env import EarlyExitGFNet, pretrained
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import load_images
from gfnet_env.inference import assemble
from gfnet_env.policies import LearnedPolicy

Batch = dict[str, dict[str, Tensor]]


class GlanceFocusModule(TorchRLModule, ValueFunctionAPI):
    """An actor whose mean is a learned policy, and a critic on the same encoder."""

    def setup(self) -> None:
        self.policy = LearnedPolicy.for_model(pretrained("cluttered-digits").model, (128,))
        self.log_std = nn.Parameter(torch.full((2,), -1.0))
        self.critic = nn.Linear(self.policy.encoder.output_size, 1)

    def _forward(self, batch: Batch, **_: object) -> dict[str, Tensor]:
        mean = self.policy.actor(self.policy.encoder(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, self.log_std.expand_as(mean)], dim=1)}

    def compute_values(self, batch: Batch, embeddings: None = None) -> Tensor:
        return self.critic(self.policy.encoder(batch[Columns.OBS])).squeeze(1)


def main(images: str = "cluttered-digits", updates: int = 40, seed: int = 0) -> EarlyExitGFNet:
    """Learn on the split train, solve thresholds on val, report on test."""
    options = {"images": images, "sampling": "uncertain"}
    ppo = PPOConfig().environment("gfnet_env/GlanceFocus-v0", env_config=options)
    ppo.env_runners(num_env_runners=0, gym_env_vectorize_mode="vector_entry_point")
    ppo.env_runners(num_envs_per_env_runner=64).debugging(seed=seed)
    ppo.training(lr=1e-3, gamma=0.0, num_epochs=2, minibatch_size=128)
    ppo.training(train_batch_size_per_learner=768)
    algorithm = ppo.rl_module(rl_module_spec=RLModuleSpec(GlanceFocusModule)).build_algo()
    for _ in range(updates):
        algorithm.train()
    policy = algorithm.get_module().policy
    algorithm.stop()
    gfnet = assemble(pretrained("cluttered-digits").model, policy, load_images(images, "val"))
    record = evaluate_policy(gfnet.model, gfnet.policy, load_images(images, "test"))
    print("accuracy after each step:", *(f"{value:.1%}" for value in record.accuracy))
    return gfnet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="cluttered-digits", help="image set")
    parser.add_argument("--updates", type=int, default=40, help="number of updates")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
