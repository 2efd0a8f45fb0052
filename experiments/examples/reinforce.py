"""Learn where to look with REINFORCE in plain torch, and assemble the early-exit network.

python experiments/examples/reinforce.py
"""

from dataclasses import dataclass

import torch
import tyro
from torch.distributions import Normal

from gfnet_env.data import load_images
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.inference import assemble, classify, evaluate_policy
from gfnet_env.policies import LearnedPolicy


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """What to learn on, and how."""

    images: str = "cluttered-digits"
    """Image set; the network that comes with the package looks at it."""
    updates: int = 800
    """Steps of the optimiser."""
    num_envs: int = 64
    """Images looked at side by side: the episodes of an update."""
    learning_rate: float = 2e-3
    """Of Adam; it falls to zero."""
    deviation: float = 0.4
    """Standard deviation of the actions, on [-1, 1]."""
    discount: float = 0.0
    """What a reward one step later counts: nothing, since each patch is paid for what it showed."""
    seed: int = 0
    """Of the weights, the actions and the order of images."""


def learn(envs: GlanceFocusVectorEnv, config: ReinforceConfig) -> LearnedPolicy:
    """Maximise the return of whole episodes by its score-function gradient (Williams, 1992)."""
    torch.manual_seed(config.seed)
    network = envs.network
    policy = LearnedPolicy(network.feature_shape, network.memory_size, (128,)).to(network.device)
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, config.updates)
    for update in range(config.updates):
        observations, _ = envs.reset(seed=config.seed if update == 0 else None)
        log_probabilities, rewards = [], []
        for _ in range(envs.focus_steps):
            observation = {
                key: torch.from_numpy(value).to(network.device)
                for key, value in observations.items()
            }
            chances = Normal(policy.actor(policy.encoder(observation)), config.deviation)
            actions = chances.sample()
            log_probabilities.append(chances.log_prob(actions).sum(dim=1))
            observations, reward, _, _, _ = envs.step(actions.numpy(force=True))
            rewards.append(torch.from_numpy(reward).float().to(network.device))
        returns = [rewards[-1]]
        for earlier in rewards[-2::-1]:
            returns.insert(0, earlier + config.discount * returns[0])
        # Against the mean of the other images at the same step, which no action changes.
        advantages = torch.stack([values - values.mean() for values in returns])
        optimiser.zero_grad()
        (-torch.stack(log_probabilities) * advantages).mean().backward()
        optimiser.step()
        schedule.step()
    return policy


def main(config: ReinforceConfig) -> None:
    """Learn on the training split, choose thresholds on val, report on test."""
    images = {split: load_images(config.images, split) for split in ("train", "val", "test")}
    envs = GlanceFocusVectorEnv(config.num_envs, images=images["train"], sampling="uncertain")
    policy = learn(envs, config)
    accuracy = evaluate_policy(envs.network, policy, images["test"]).accuracy
    print("accuracy of every step:", " ".join(f"{value:.1%}" for value in accuracy))
    prediction = classify(assemble(envs.network, policy, images["val"]), images["test"])
    print(f"multiply-adds with early exits: {prediction.multiply_adds.double().mean():.3g}")


if __name__ == "__main__":
    main(tyro.cli(ReinforceConfig, description=__doc__))
