"""``gfnet cache-features``: compute what --features cached uses."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("cache-features")
