"""How much memory a domain takes from its host: libxl's arithmetic, in KiB. Pure; used by the ledger and the simulator.

Source: libxl__domain_need_memory_calculate and libxl_get_required_shadow_memory (tools/libs/light/libxl_mem.c,
libxl_create.c, Xen 4.17).
"""

from __future__ import annotations

from reconciler.model.domain import Domain
from reconciler.model.host import Guest, Host

_MIB = 1024
_ROUND_KIB = 2 * _MIB


def shadow_kib(domain: Domain) -> int:
    """Page-table memory set aside for a domain: 1 MiB a vcpu and 4 KiB for each MiB it may grow to."""
    return 4 * (256 * domain.maxvcpus + domain.maxmem_kib // _MIB)


def needed_kib(domain: Domain, memory_kib: int) -> int:
    """What a host must have free to give this domain `memory_kib`, rounded up to 2 MiB as libxl does."""
    slack = _MIB if domain.type == "pv" else 2 * _MIB
    need = memory_kib + shadow_kib(domain) + slack
    return -(-need // _ROUND_KIB) * _ROUND_KIB


def promised_kib(guest: Guest) -> int:
    """What a guest counts for: the larger of what it was promised and what it holds (a balloon may be on its way)."""
    if not guest.exists:
        return 0
    if guest.running is None:
        return -(-(guest.actual_kib + 2 * _MIB) // _ROUND_KIB) * _ROUND_KIB
    return needed_kib(guest.running, max(guest.running.memory_kib, guest.actual_kib))


def used_kib(host: Host) -> int:
    """All that is promised on a host, unmanaged domains included."""
    return sum(promised_kib(guest) for guest in host.guests.values())


def capacity_kib(host: Host, keep_free_kib: int) -> int:
    """What can be promised on a host: what is free, plus what domains hold, less `keep_free`.

    Measured from what is really free, so Xen's and dom0's share and what zombies hold are out of it without a guess.
    """
    held = 0
    for guest in host.guests.values():
        if guest.running is not None and guest.exists:
            held += needed_kib(guest.running, guest.actual_kib)
        else:
            held += promised_kib(guest)
    return host.free_kib + held - keep_free_kib
