"""``gfnet train-policy``: stage 2: where to look; assembles the network."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("train-policy")
