"""Measured time; see ``gfnet_env.timing``."""

from gfnet_env.timing import seconds

__all__ = ["seconds"]
