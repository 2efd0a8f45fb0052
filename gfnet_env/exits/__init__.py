"""Exit rules: when to stop looking at a picture."""

from gfnet_env.exits.base import EXITS, ExitRule, Signal, certainty_of, confidence, exit_now
from gfnet_env.exits.gain import ExpectedGain, fit_gain
from gfnet_env.exits.rules import ConfidenceExit, ThresholdExit, never

__all__ = [
    "EXITS",
    "ConfidenceExit",
    "ExitRule",
    "ExpectedGain",
    "Signal",
    "ThresholdExit",
    "certainty_of",
    "confidence",
    "exit_now",
    "fit_gain",
    "never",
]
