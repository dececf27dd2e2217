"""Computes how much memory a domain takes from its host, as libxl does, in KiB. Pure; ledger and simulator use it.

Source: libxl__domain_need_memory_calculate and libxl_get_required_shadow_memory (tools/libs/light/libxl_mem.c,
libxl_create.c, Xen 4.17).
"""

from __future__ import annotations

from reconciler.model.domain import Domain
from reconciler.model.host import Guest, Host

_MIB = 1024
_ROUND_KIB = 2 * _MIB


def shadow_kib(domain: Domain) -> int:
    """Return the page-table memory of a domain: 1 MiB a vcpu, and 4 KiB for each MiB it may grow to."""
    return 4 * (256 * domain.maxvcpus + domain.maxmem_kib // _MIB)


def needed_kib(domain: Domain, memory_kib: int) -> int:
    """Return the KiB that a host must have free to give this domain `memory_kib`; libxl rounds up to 2 MiB.

    >>> web = Domain(name="web", uuid="", memory_kib=1 << 20, maxmem_kib=1 << 20)
    >>> needed_kib(web, web.memory_kib) // 1024  # 1024, 4 for its pages, 1 for its vcpu, 1 of slack
    1030
    """
    slack = _MIB if domain.type == "pv" else 2 * _MIB
    need = memory_kib + shadow_kib(domain) + slack
    return -(-need // _ROUND_KIB) * _ROUND_KIB


def promised_kib(guest: Guest) -> int:
    """Return the KiB that count as given to a guest: the larger of what it may use and what it holds now.

    The two differ while a balloon is on its way.
    """
    if not guest.exists:
        return 0
    if guest.running is None:
        return -(-(guest.actual_kib + 2 * _MIB) // _ROUND_KIB) * _ROUND_KIB
    return needed_kib(guest.running, max(guest.running.memory_kib, guest.actual_kib))


def used_kib(host: Host) -> int:
    """Return all that is promised on a host, unmanaged domains included."""
    return sum(promised_kib(guest) for guest in host.guests.values())


def capacity_kib(host: Host, keep_free_kib: int) -> int:
    """Return the KiB that can be promised on a host: what is free, plus what domains hold, less `keep_free`.

    It starts from what is really free, so the shares of Xen, dom0 and zombies need no guess.
    """
    held = 0
    for guest in host.guests.values():
        if guest.running is not None and guest.exists:
            held += needed_kib(guest.running, guest.actual_kib)
        else:
            held += promised_kib(guest)
    return host.free_kib + held - keep_free_kib
