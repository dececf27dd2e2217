"""HTTP for `reconciler watch --listen`: health, metrics, status and plan as JSON, a page, holds and "look now".

`serve` (with `Tls`) is all that the watch command needs. Nothing else imports this package: its libraries take longer
to load than most commands take to run.
"""

from reconciler.web.server import Serving, serve
from reconciler.web.tls import Tls

__all__ = ["Serving", "Tls", "serve"]
