"""The table of checks. A new one is a row here and a judge beside the others (`of_dom0`, `of_specs`).

A hint is a command that can be copied, or a sentence with one, and does no harm when it is followed. Where a name in it
was chosen by a host or a person, it is filled in quoted.
"""

from __future__ import annotations

from reconciler.doctor import of_dom0, of_specs
from reconciler.doctor.case import Check

_SEE_LIMITS = "see who sets it, and take it away there: grep -rs -e ulimit -e nofile -e datasize -e filesize"
_OTHER_DIR = "or name another kernel_dir in host.toml"
_TAKE_OVER = "take its domain over (reconciler import {host}, then reconciler apply --adopt)"
_LEAVE = "leave this host to it, and take the folder {host} out of the specs; what it has:"
_CLOCKS = "see which of the two clocks is wrong, and have that one kept right:"

CHECKS: tuple[Check, ...] = (
    Check(
        id="autoballoon",
        looks_at="autoballoon is off",
        breaks="the start of a domain takes the memory that it lacks from dom0, without a word and down to 128 MiB "
        "(xend: to its dom0-min-mem), so that dom0 itself may run out of it",
        hints={
            "on": """echo 'autoballoon = "auto"' >>{conf} (the last line counts; with dom0_mem, that is off)""",
            "auto": "it is off as soon as Xen's command line has dom0_mem: see dom0-mem",
            "xend-linux": "sed -i.orig '/^[[:space:]]*(enable-dom0-ballooning/d' {conf} && "
            "echo '(enable-dom0-ballooning no)' >>{conf} (counts from the next start of xend; domains run on)",
            "xend-netbsd": "write (enable-dom0-ballooning no) into {conf}, in place of what it says of it (counts from "
            "the next start of xend; domains run on)",
        },
        judge=of_dom0.autoballoon,
    ),
    Check(
        id="dom0-mem",
        looks_at="dom0 has a memory of its own (dom0_mem)",
        breaks="dom0 holds all memory at first and gives it up piece by piece: there is little to give to domains, and "
        "how much dom0 keeps depends on which were started",
        hints={
            "grub": """echo 'GRUB_CMDLINE_XEN="$GRUB_CMDLINE_XEN dom0_mem={mib}M,max:{mib}M"' """
            ">>/etc/default/grub.d/dom0-mem.cfg && update-grub (counts from the next boot of the host)",
            "linux": "add dom0_mem={mib}M,max:{mib}M to Xen's line in the boot loader (counts from the next boot)",
            "netbsd": "add dom0_mem={mib}M behind xen.gz in /boot.cfg (counts from the next boot)",
        },
        judge=of_dom0.dom0_mem,
    ),
    Check(
        id="xendomains-save",
        looks_at="xendomains saves domains at a shutdown",
        breaks="a saved domain comes back with what it ran with, not with what was changed meanwhile; while its image "
        "waits it is not started fresh, and all images together are as large as the memory of all domains",
        hints={
            "linux": "sed -i.orig 's/^[[:space:]]*XENDOMAINS_SAVE=.*/XENDOMAINS_SAVE=\"\"/' {file}"
            " (domains are shut down instead)"
        },
        judge=of_dom0.xendomains_save,
    ),
    Check(
        id="autostart",
        looks_at="only domains of ours are started at boot",
        breaks="it runs after a boot whatever the specs say, takes memory that they count on, and comes up beside one "
        "of ours if it defines the same domain",
        hints={
            "link": f"{_TAKE_OVER}, or have it not started: rm {{path}}",
            "file": "make it a config file like others, and take its domain over (reconciler import {host}): "
            "mv -i {path} {xen_dir}/",
            "netbsd": f"{_TAKE_OVER}, or take {{name}} out of xendomains= in /etc/rc.conf",
        },
        judge=of_dom0.autostart,
    ),
    Check(
        id="bridges",
        looks_at="every bridge that a spec names is there",
        breaks="a domain with an interface on it is blocked: it is neither created nor restarted",
        hints={
            "linux": "use one that is there, or make it: ip link add name {bridge} type bridge && "
            "ip link set {bridge} up (for the next boot: in /etc/network/interfaces, with the network's interface)",
            "netbsd": "use one that is there, or make it: ifconfig {bridge} create && ifconfig {bridge} up "
            "(for the next boot: in /etc/ifconfig.{bridge}, with the network's interface)",
            "ovs": "use one that is there, or make it: ovs-vsctl --may-exist add-br {bridge}",
        },
        judge=of_specs.bridges,
    ),
    Check(
        id="lvm",
        looks_at="the volume groups that the specs name are there",
        breaks="a disk in it can be neither made nor grown, so its domain does not start",
        hints={
            "tool-linux": "apt install lvm2",
            "tool-netbsd": "see whether this system was built with LVM, whose tools are in /sbin: ls /sbin/vgs",
            "group": "correct its name in the specs and in disk_roots; on the host, `vgs` lists all that it sees",
        },
        judge=of_specs.volume_groups,
    ),
    Check(
        id="kernel-dir",
        looks_at="there is room for kernels",
        breaks="a domain whose kernel cannot be staged, or is lost, can be neither updated nor created nor started",
        hints={
            "full": "see what takes the room: du -xk {folder} | sort -n | tail -n 20 (`reconciler kernels` tells which "
            f"kernels are unused), {_OTHER_DIR}",
            "in-memory": f"have a disk mounted at {{folder}}, {_OTHER_DIR}",
            "read-only": "see why it is read-only before you change that: dmesg | tail -n 50",
        },
        judge=of_dom0.room,
    ),
    Check(
        id="xen-version",
        looks_at="xl knows all keys that the specs use",
        breaks="an xl that does not know a key leaves it out without a word, or refuses the whole file",
        hints={"key": "leave it out of the spec of {name}, or bring the host to Xen {version}"},
        not_of=("xm",),  # validate refuses what xm has no word for
        judge=of_specs.xen_version,
    ),
    Check(
        id="clock",
        looks_at="the clock of the host is right",
        breaks="holds end too early or too late, and times that the host notes do not fit to those of the history",
        hints={
            "linux": f"{_CLOCKS} apt install chrony",
            "netbsd": f"{_CLOCKS} ntpd=YES in /etc/rc.conf, then service ntpd start",
        },
        judge=of_dom0.clock,
    ),
    Check(
        id="toolstack",
        looks_at="no other toolstack is at work there",
        breaks="neither it nor xl knows what the other one starts, stops and defines: memory is gone that plans count "
        "on, and domains come back that were destroyed",
        hints={
            "libvirt": "see what it looks after: virsh -c xen:///system list --all; when all of that is managed here: "
            "systemctl disable --now libvirtd.service libvirtd.socket",
            "xapi": f"{_LEAVE} xe vm-list",
            "xend": "see what it looks after: xm list; where nobody uses xm any more: service xend stop",
            "qubes": f"{_LEAVE} qvm-ls",
        },
        judge=of_dom0.second_toolstack,
    ),
    Check(
        id="shared",
        looks_at="no disk and no mac of a spec is in use by a domain that is not ours",
        breaks="two domains that write to one disk destroy it, and two with one mac take each other's packets; the "
        "domain of the spec is blocked",
        hints={
            "disk": "name another disk in the spec of {name}; if it is to take the place of {other}, call it {other}, "
            "too, and use reconciler apply --adopt",
            "mac": "write another mac into the spec of {name}; those of {other}: {tool} network-list {other}",
        },
        judge=of_specs.shared,
    ),
    Check(
        id="file-devices",
        looks_at="there are devices enough for disks in files",
        breaks="while none is free, a domain with a disk in a file does not start",
        hints={
            "none": "modprobe loop",
            "linux": "let the kernel make more when they are needed: mknod /dev/loop-control c 10 237",
            "netbsd": "cd /dev && sh MAKEDEV {node0} {node1} {node2} {node3}",
        },
        judge=of_dom0.file_devices,
    ),
    Check(
        id="ulimit",
        looks_at="commands may use what they need",
        breaks="what needs more fails in the middle: xl create, a kernel that is copied, a disk that is made",
        hints={
            "linux": f"{_SEE_LIMITS} /etc/profile /etc/profile.d /etc/security /root/.profile /root/.bashrc",
            "netbsd": f"{_SEE_LIMITS} /etc/login.conf /etc/profile /root/.profile /root/.shrc",
        },
        judge=of_dom0.limits,
    ),
    Check(
        id="ssh",
        looks_at="one ssh connection carries all commands",
        breaks="each command opens a connection of its own: that takes long, and sshd may turn some away (MaxStartups)",
        hints={
            "client": "see whether it is OpenSSH's, which can: ssh -V (Debian: apt install openssh-client)",
            "linux": "sed -i.orig '1i MaxSessions 64' /etc/ssh/sshd_config && sshd -t && service ssh reload",
            "netbsd": "write MaxSessions 64 as the first line of /etc/ssh/sshd_config, then: service sshd reload",
        },
        judge=of_dom0.ssh,
    ),
    Check(
        id="daemons",
        looks_at="xl looks after every domain that runs",
        breaks="when it reboots, it does not come back; when it powers off or crashes, nobody clears it away",
        hints={
            "ours": "when it suits, on the host: xl shutdown {name}; then reconciler apply starts it again",
            "theirs": "when it suits, on the host: xl shutdown {name}; then xl create with its config file",
        },
        not_of=("xm",),  # xend looks after all of them
        judge=of_dom0.daemons,
    ),
)
