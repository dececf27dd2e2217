"""Debian's links to what xendomains starts."""

from __future__ import annotations

from reconciler.dom0.autostart import UNNUMBERED, read_links
from reconciler.dom0.layout import Dom0

DEBIAN = Dom0(flavour="debian", config_dir="/etc/xen", kernel_dir="/var/lib/xen/kernels")


def test_links_name_a_domain_by_the_config_file_they_lead_to() -> None:
    lines = [
        "010-web\t/etc/xen/web.cfg",
        "020-db\t../db.cfg",
        "hand.cfg\t../mail.cfg",
        "030-web\t/etc/xen/web.cfg",
        "040-foreign\t/srv/foreign.cfg",
        "050-copy\t/etc/xen/scripts/x",
    ]
    assert read_links(lines, DEBIAN) == {"web": 10, "db": 20, "mail": UNNUMBERED}
