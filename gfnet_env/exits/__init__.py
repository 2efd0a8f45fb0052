"""Exit rules: when to stop looking at a picture."""

from gfnet_env.exits.base import EXITS, ExitRule, Signal, confidence
from gfnet_env.exits.gain import ExpectedGain, fit_gain
from gfnet_env.exits.rules import ConfidenceExit, ThresholdExit, never

__all__ = [
    "EXITS",
    "ConfidenceExit",
    "ExitRule",
    "ExpectedGain",
    "Signal",
    "ThresholdExit",
    "confidence",
    "fit_gain",
    "never",
]
