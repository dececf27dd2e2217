"""From raw specs to the desired state: profiles, defaults, derived identity, and every rule between keys and files."""

from reconciler.core.resolve.images import complete_images, staged_path
from reconciler.core.resolve.inputs import HostFolder, SpecFile, SpecTree, TreeFile
from reconciler.core.resolve.tree import Resolution, resolve

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
