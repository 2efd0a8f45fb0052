"""Observations: what a policy sees."""

from gfnet_env.observations.base import OBSERVATIONS, Observation, observation_space, observe
from gfnet_env.observations.flat import FlatView
from gfnet_env.observations.maps import MapsObservation
from gfnet_env.observations.peak import PeakObservation
from gfnet_env.observations.plain import PlainObservation

__all__ = [
    "OBSERVATIONS",
    "FlatView",
    "MapsObservation",
    "Observation",
    "PeakObservation",
    "PlainObservation",
    "observation_space",
    "observe",
]
