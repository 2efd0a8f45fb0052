"""Learn where to look with REINFORCE in plain torch, and assemble the early-exit network.

python experiments/examples/reinforce.py
"""

import torch
import tyro
from torch.distributions import Normal

from gfnet_env import EarlyExitGFNet
from gfnet_env.data import load_images
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.inference import assemble, evaluate_policy
from gfnet_env.policies import LearnedPolicy

DEVIATION = 0.4  # Of the actions, on [-1, 1].
DISCOUNT = 0.0  # A patch is paid for what it shows itself, so what comes later counts nothing.


def learn(envs: GlanceFocusVectorEnv, updates: int, seed: int) -> LearnedPolicy:
    """Ascend the score-function gradient of the return (Williams, 1992).

    Args:
        envs: N images side by side, all of whose episodes take every focus step.
        updates: Steps of the optimiser, each on one episode of every image.
        seed: Of the weights, the actions and the order of images.
    """
    torch.manual_seed(seed)
    device = envs.network.device
    policy = LearnedPolicy(envs.network.feature_shape, envs.network.memory_size, (128,)).to(device)
    optimiser = torch.optim.Adam(policy.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, updates)
    for update in range(updates):
        observations, _ = envs.reset(seed=seed if update == 0 else None)
        log_probabilities, rewards = [], []
        for _ in range(envs.focus_steps):
            observation = {
                key: torch.from_numpy(observations[key]).to(device) for key in observations
            }
            distribution = Normal(policy.actor(policy.encoder(observation)), DEVIATION)
            actions = distribution.sample()
            log_probabilities.append(distribution.log_prob(actions).sum(dim=1))
            observations, reward, _, _, _ = envs.step(actions.numpy(force=True))
            rewards.append(torch.from_numpy(reward).float().to(device))
        returns = [rewards.pop()]
        while rewards:
            returns.insert(0, rewards.pop() + DISCOUNT * returns[0])
        # Against what the other images got at the same step: no action of an image changes that.
        advantages = [gained - gained.mean() for gained in returns]
        loss = -(torch.stack(log_probabilities) * torch.stack(advantages)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return policy


def main(images: str = "cluttered-digits", updates: int = 400, seed: int = 0) -> EarlyExitGFNet:
    """Learn on the split train, solve thresholds on val, report on test.

    Args:
        images: Image set, for the network that comes with the package.
        updates: Steps of the optimiser, each on an episode of 64 images.
        seed: Of the weights, the actions and the order of images.
    """
    envs = GlanceFocusVectorEnv(64, images=images, sampling="uncertain")
    gfnet = assemble(envs.network, learn(envs, updates, seed), load_images(images, "val"))
    record = evaluate_policy(gfnet.network, gfnet.policy, load_images(images, "test"))
    print("accuracy after each step:", *(f"{value:.1%}" for value in record.accuracy))
    return gfnet


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
