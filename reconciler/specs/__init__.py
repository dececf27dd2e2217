"""Spec files on disk: read a tree of TOML, keeping file, line and column for every problem. Called by the commands."""

from reconciler.specs.tree import TreeCache, TreeReading, read_tree

__all__ = ["TreeCache", "TreeReading", "read_tree"]
