"""Resolving turns raw specs into the desired state: profiles, defaults, identity, rules between keys and files."""

from reconciler.specs.resolve.images import complete_images, staged_path
from reconciler.specs.resolve.inputs import HostFolder, SpecFile, SpecTree, TreeFile
from reconciler.specs.resolve.tree import Resolution, resolve

__all__ = [
    "HostFolder",
    "Resolution",
    "SpecFile",
    "SpecTree",
    "TreeFile",
    "complete_images",
    "resolve",
    "staged_path",
]
