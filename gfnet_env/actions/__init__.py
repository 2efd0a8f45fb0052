"""Kinds of action: what an agent emits, and the looks that result."""

from gfnet_env.actions.base import Actions, BoxActions, looks_of
from gfnet_env.actions.continuous import ContinuousActions
from gfnet_env.actions.grid import GridActions
from gfnet_env.actions.peak import PeakActions
from gfnet_env.actions.registry import ACTIONS, build_actions
from gfnet_env.actions.stop import WithStop
from gfnet_env.actions.zoom import ZoomActions

__all__ = [
    "ACTIONS",
    "Actions",
    "BoxActions",
    "ContinuousActions",
    "GridActions",
    "PeakActions",
    "WithStop",
    "ZoomActions",
    "build_actions",
    "looks_of",
]
