"""Several stores behind the same contract. ``tiered``: a fast one before the truth; ``mirrored``: one primary, and others that
follow it; ``routed``: each item in the one that its rule says."""

from memory.backends.composite.mirrored import MirroredStore
from memory.backends.composite.routed import RoutedStore
from memory.backends.composite.routes import Promotion, Route
from memory.backends.composite.store import CompositeStore
from memory.backends.composite.tiered import TieredStore

__all__ = ["CompositeStore", "MirroredStore", "Promotion", "Route", "RoutedStore", "TieredStore"]
