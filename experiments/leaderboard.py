"""``gfnet leaderboard``: all policies and learners on the standard tasks."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("leaderboard")
