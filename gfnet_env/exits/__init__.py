"""Exit rules: when to stop looking at a picture."""

from gfnet_env.exits.base import EXITS, ExitRule
from gfnet_env.exits.rules import ConfidenceExit, ThresholdExit, never

__all__ = ["EXITS", "ConfidenceExit", "ExitRule", "ThresholdExit", "never"]
