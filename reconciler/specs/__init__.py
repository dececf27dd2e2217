"""Spec files on disk: read a tree of TOML, keeping file, line and column for every problem. Called by the commands."""

from reconciler.specs.tree import TreeReading, read_tree

__all__ = ["TreeReading", "read_tree"]
