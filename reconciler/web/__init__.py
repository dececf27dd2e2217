"""HTTP for `reconciler watch --listen`: health, metrics, status and plan as JSON, a page to look at, and "look now".

`serve` is all that the watch command needs. Nothing else imports this package: its libraries take longer to load than
most commands take to run.
"""

from reconciler.web.server import Serving, serve

__all__ = ["Serving", "serve"]
