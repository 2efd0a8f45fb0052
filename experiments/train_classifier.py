"""Stage 1: train both encoders and the classifier on random patches.

python experiments/train_classifier.py --run runs/classifier
python experiments/train_classifier.py --images folder:PATH --encoder tf_efficientnet_lite0 \
    --weights pretrained --patch-size 96 --focus-steps 3 --run runs/classifier
"""

import tyro

from gfnet_env.training import ClassifierConfig, train_classifier

if __name__ == "__main__":
    train_classifier(tyro.cli(ClassifierConfig, description=__doc__))
