"""Stage 2: learn where to look, compare policies, assemble the early-exit network.

python experiments/train_policy.py
python experiments/train_policy.py --algorithm sac --timesteps 20000 --set gradient_steps=4
python experiments/train_policy.py --algorithm ppo --actions grid --grid 9
python experiments/train_policy.py --network runs/classifier --run runs/policy
"""

from gfnet_agents import PolicyConfig, parse_config, train_policy

if __name__ == "__main__":
    train_policy(parse_config(PolicyConfig, __doc__))
