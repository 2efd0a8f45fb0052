"""All targets."""

from tests.fuzz import environments, parts, pictures, saved, settings
from tests.fuzz.core import TARGETS

__all__ = ["TARGETS", "environments", "parts", "pictures", "saved", "settings"]
