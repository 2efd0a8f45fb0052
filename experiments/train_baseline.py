"""Static baselines: the same encoder on whole images, one network for each resolution.

python experiments/train_baseline.py --epochs 4 --run runs/digits-static
python experiments/train_baseline.py --images folder:PATH --encoder tf_efficientnet_lite0 \
    --weights pretrained --resolutions 96 128 160 224 --run runs/photos-static
"""

from gfnet_agents import parse_config
from gfnet_env.training import BaselineConfig, train_baselines

if __name__ == "__main__":
    train_baselines(parse_config(BaselineConfig, __doc__))
