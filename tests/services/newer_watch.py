"""`reconciler`, run as a version that tells of its hosts in a way that others do not understand."""

from __future__ import annotations

from reconciler.cli import main
from reconciler.cluster import controller
from reconciler.inspect import observed

if __name__ == "__main__":
    controller._VERSION = "99.0"
    observed._version = lambda: "99"  # type: ignore[assignment]
    main()
