"""``python -m gfnet_cli``: the command ``gfnet``."""

from gfnet_cli.main import main

if __name__ == "__main__":
    main()
