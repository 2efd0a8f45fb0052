"""Stage 2: learn where to look, compare policies, assemble the early-exit network.

python experiments/train_policy.py
python experiments/train_policy.py --algorithm sac:gradient_steps=4 --timesteps 20000
python experiments/train_policy.py --algorithm maskable-ppo --actions grid:cells=9+stop
python experiments/train_policy.py --network runs/classifier --run runs/policy
python experiments/train_policy.py --continue-from runs/policy --sampling uncertain --run runs/more
python experiments/train_policy.py --algorithm module:LEARNER:key=value
"""

from gfnet_agents import PolicyConfig, parse_config, train_policy

if __name__ == "__main__":
    train_policy(parse_config(PolicyConfig, __doc__))
