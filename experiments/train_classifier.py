"""Stages 1 and 3: train both encoders and the classifier, on random looks or a policy's looks.

python experiments/train_classifier.py --run runs/classifier
python experiments/train_classifier.py --images folder:PATH --encoder tf_efficientnet_lite0 \
    --weights pretrained --patch-size 96 --focus-steps 3 --run runs/classifier
python experiments/train_classifier.py --policy runs/policy --run runs/finetuned
accelerate launch --num_processes 8 experiments/train_classifier.py --run runs/classifier
"""

from gfnet_agents import parse_config
from gfnet_env.training import ClassifierConfig, train_classifier

if __name__ == "__main__":
    train_classifier(parse_config(ClassifierConfig, __doc__))
