"""``gfnet classify``: classify pictures; draw where the network looked."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("classify")
