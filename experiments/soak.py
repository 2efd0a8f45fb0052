"""``gfnet soak``: long use: memory, open files and threads stay flat."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("soak")
