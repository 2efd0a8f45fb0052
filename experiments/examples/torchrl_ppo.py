"""Learn where to look with the PPO of TorchRL, and assemble the early-exit network.

python experiments/examples/torchrl_ppo.py
"""

import argparse

import torch
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper, RenameTransform, TransformedEnv
from torchrl.modules import IndependentNormal, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss

from gfnet_env import EarlyExitGFNet
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.images import load_images
from gfnet_env.inference import assemble
from gfnet_env.policies import LearnedPolicy


def main(images: str = "cluttered-digits", updates: int = 40, seed: int = 0) -> EarlyExitGFNet:
    """Learn on the split train, solve thresholds on val, report on test."""
    torch.manual_seed(seed)
    envs = GlanceFocusVectorEnv(64, images=images, sampling="uncertain", autoreset_mode="Disabled")
    flat = GymWrapper(envs)
    keys = list(flat.observation_spec.keys())
    env = TransformedEnv(flat, RenameTransform(keys, [("observation", key) for key in keys]))
    env.set_seed(seed)
    policy = LearnedPolicy.for_model(envs.model, (128,))
    scale = AddStateIndependentNormalScale(2, init_value=-1.0)
    normal = nn.Sequential(policy.encoder, policy.actor, scale)
    located = TensorDictModule(normal, ["observation"], ["loc", "scale"])
    kind = {"distribution_class": IndependentNormal, "return_log_prob": True}
    actor = ProbabilisticActor(located, ["loc", "scale"], **kind)
    value = nn.Sequential(policy.encoder, nn.Linear(policy.encoder.output_size, 1))
    critic = TensorDictModule(value, ["observation"], ["state_value"])
    loss = ClipPPOLoss(actor, critic, entropy_bonus=False, normalize_advantage=True)
    optimiser = torch.optim.Adam(loss.parameters(), lr=1e-3)
    size = {"frames_per_batch": 768, "total_frames": 768 * updates}
    for batch in Collector(env, actor, **size, auto_register_policy_transforms=True):
        steps = batch.reshape(-1)
        # With gamma = 0 the return of a look is its own reward.
        steps["value_target"] = steps["next", "reward"]
        with torch.no_grad():
            steps["advantage"] = steps["next", "reward"] - critic(steps.copy())["state_value"]
        for part in torch.cat([steps[torch.randperm(768)] for _ in range(2)]).split(128):
            losses = loss(part)
            optimiser.zero_grad()
            (losses["loss_objective"] + losses["loss_critic"]).backward()
            optimiser.step()
    gfnet = assemble(envs.model, policy, load_images(images, "val"))
    record = evaluate_policy(gfnet.model, gfnet.policy, load_images(images, "test"))
    print("accuracy after each step:", *(f"{value:.1%}" for value in record.accuracy))
    return gfnet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="cluttered-digits", help="image set")
    parser.add_argument("--updates", type=int, default=40, help="number of updates")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
