"""All three stages and the evaluation, one after the other.

python experiments/train_gfnet.py --run runs/gfnet
python experiments/train_gfnet.py --images folder:PATH --encoder tf_efficientnet_lite0 \
    --weights pretrained --patch-size 96 --recipe photographs --run runs/photos

Interrupted, it goes on with --resume. A stage's schedule is --stage1.epochs, --stage3.epochs, …
"""

from gfnet_agents import PipelineConfig, parse_config, train_gfnet

if __name__ == "__main__":
    train_gfnet(parse_config(PipelineConfig, __doc__))
