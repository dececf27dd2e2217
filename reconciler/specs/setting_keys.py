"""The table of what host.toml, reconciler.toml and the smaller tables of specs say: a sentence and an example each.

Types, bounds and defaults are those of `specs.schema`, which checks them. `explain`, the JSON Schemas and
docs/reference take the sentences from here. The keys of a domain spec have a table of their own, `model.keys`.
"""

from __future__ import annotations

from reconciler.records import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. What its type alone does not say of its values and its default is in `value` and `default`."""

    name: str
    doc: str
    example: str = ""
    value: str = ""
    default: str = ""
    since: str = "0.1"


HOST_KEYS = (
    Setting(
        "toolstack",
        "What manages the domains of the host: xl, xm (Xen 4.1), or nothing but a folder (simulated).",
        'toolstack = "xl"',
    ),
    Setting(
        "connect",
        "How the host is reached: on this machine, or through the system's ssh with its own settings.",
        'connect = "ssh://root@alpha"',
        value="`local`, or `ssh://[user@]name[:port]`",
    ),
    Setting(
        "config_dir",
        "The folder of the dom0 with the config files of domains.",
        'config_dir = "/etc/xen"',
        default="by the dom0: `/etc/xen`, `/usr/pkg/etc/xen` on NetBSD",
    ),
    Setting(
        "kernel_dir",
        "The folder of the dom0 that kernels and ramdisks are copied to, and booted from.",
        'kernel_dir = "/var/lib/xen/kernels"',
    ),
    Setting(
        "kernel_roots",
        "Folders of the dom0 whose direct children specs may name as kernel or ramdisk.",
        'kernel_roots = ["/boot", "/srv/kernels"]',
        default="`/`, `/boot` and config_dir",
    ),
    Setting(
        "disk_roots",
        "Folders and volume groups of the dom0 in which specs may name disks and images to clone.",
        'disk_roots = ["/srv/xen", "vg0"]',
    ),
    Setting(
        "allow",
        "What specs may use beyond that. Each of these runs as root in the dom0, or reaches hardware.",
        value="a table",
    ),
    Setting(
        "keep_free",
        "Memory that is never given to domains, beside what Xen and the dom0 take.",
        'keep_free = "512MiB"',
        default='`"0"`',
    ),
    Setting(
        "overcommit_vcpus", "Whether a domain may have more vcpus than the host has cpus.", "overcommit_vcpus = false"
    ),
    Setting("parallel", "How many steps may be under way on this host at once.", "parallel = 2"),
    Setting(
        "max_unavailable",
        "How many running domains of this host may be down at once for a restart.",
        "max_unavailable = 2",
    ),
    Setting(
        "reconcile",
        "Whether anything is done on this host; false: it is shown, and never changed.",
        "reconcile = false",
    ),
    Setting(
        "window", "When some actions may happen on this host, or may not.", value="an array of tables", since="0.2"
    ),
    Setting("rehearsal", "What a rehearsal on this host may take, and how it is made.", value="a table", since="0.2"),
    Setting("simulated", "The size and temper of a simulated host.", value="a table"),
)

ALLOW_KEYS = (
    Setting(
        "bootloaders",
        "Programs and images of the dom0 from which domains may boot, as specs name them.",
        'bootloaders = ["pygrub"]',
    ),
    Setting("scripts", "Hotplug scripts of disks and interfaces that specs may name.", 'scripts = ["vif-openvswitch"]'),
    Setting(
        "xl_keys",
        "Keys that specs may have under [xl] although they reach the dom0 or its hardware.",
        'xl_keys = ["device_model_override"]',
    ),
    Setting(
        "pci",
        "PCI devices that specs may give to domains.",
        'pci = ["0000:03:00.0"]',
        value='an array of addresses such as `"0000:03:00.0"` (`.*`: all functions), or `"name=NAME"`',
    ),
)

_SIZE_OR_SHARE = 'a size, or a share such as `"20%"`'

REHEARSAL_KEYS = (
    Setting(
        "memory",
        "The memory of a throwaway domain.",
        'memory = "512MiB"',
        default="that of its domain",
        since="0.2",
    ),
    Setting(
        "bridge",
        "The bridge that its interfaces are on.",
        'bridge = "rehearsals"',
        default="one without ports and without address, made for it and removed after it",
        since="0.2",
    ),
    Setting(
        "timeout",
        "How long it may take to get ready.",
        'timeout = "5m"',
        default="that of `[ready]` of its domain",
        since="0.2",
    ),
    Setting(
        "snapshot_size",
        "The room of a classic LVM snapshot, for what both domains write meanwhile; a share is of the volume.",
        'snapshot_size = "50%"',
        value=_SIZE_OR_SHARE,
        default='`"20%"`',
        since="0.2",
    ),
    Setting(
        "keep_free",
        "What stays free in a thin pool or a file system: below it, the rehearsal is ended and its snapshots go.",
        'keep_free = "20GiB"',
        value=_SIZE_OR_SHARE,
        default='`"10%"`',
        since="0.2",
    ),
    Setting(
        "copy_limit",
        "How large a disk may be that is copied while its domain is paused, where no snapshot can be had.",
        'copy_limit = "2GiB"',
        default='`"0"`: none is',
        since="0.2",
    ),
    Setting(
        "pause",
        "Whether a running domain may be paused while several of its disks are snapshot, or one is copied.",
        "pause = true",
        since="0.2",
    ),
)

SIMULATED_KEYS = (
    Setting("memory", "The memory of the host.", 'memory = "16GiB"', default='`"8GiB"`'),
    Setting("cpus", "How many cpus it has.", "cpus = 4"),
    Setting("seed", "Where its chance begins: the same seed, the same story.", "seed = 7"),
    Setting(
        "latency",
        "How much real time each command takes. Without it, waiting costs none.",
        'latency = "1s"',
        default='`"0s"`',
    ),
)

WINDOW_KEYS = (
    Setting(
        "kind",
        "allow: what it names happens only inside such a window. deny: inside it, it does not; this is the"
        " stronger of the two.",
        'kind = "allow"',
        since="0.2",
    ),
    Setting(
        "schedule",
        "When it begins: minute, hour, day of month, month and day of week, as in crontab(5).",
        'schedule = "0 2 * * SAT"',
        value="the five fields of a cron line",
        since="0.2",
    ),
    Setting("duration", "How long it lasts, at most 31 days.", 'duration = "4h"', since="0.2"),
    Setting(
        "timezone",
        "The time zone of its schedule.",
        'timezone = "Europe/Berlin"',
        value="a name of the IANA time zones",
        since="0.2",
    ),
    Setting("actions", "What it speaks of.", 'actions = ["restart", "stop"]', since="0.2"),
    Setting(
        "domains",
        "Which domains it speaks of: globs over addresses (alpha/*) or, without a slash, names (db*).",
        'domains = ["alpha/*", "db*"]',
        since="0.2",
    ),
    Setting("reason", "Why, in words that plans and status repeat.", 'reason = "quarter end"', since="0.2"),
)

TREE_KEYS = (
    Setting(
        "fleet",
        "Whose domains these are. Derived uuids and macs begin with it: leave it as it is once domains run.",
        'fleet = "example"',
        value="a name",
        default="`default`, and only where all hosts are simulated: with a real one it has to be written",
    ),
    Setting(
        "mac_prefix",
        "The octets behind which macs are derived that no spec gives.",
        'mac_prefix = "02:16:3e"',
        value="one to five octets of a MAC address, the first of them even",
        since="0.2",
    ),
    Setting(
        "max_unavailable",
        "How many running domains of all hosts together may be down at once for a restart.",
        "max_unavailable = 3",
        default="no bound but those of the hosts",
        since="0.2",
    ),
    Setting("brake", "The most that one run may destroy or restart; watch counts over each commit.", value="a table"),
    Setting("git", "Which commits watch accepts.", value="a table"),
    Setting(
        "window", "When some actions may happen on all hosts, or may not.", value="an array of tables", since="0.2"
    ),
    Setting("notify", "Who is told what happens.", value="an array of tables", since="0.2"),
    Setting(
        "defaults",
        "Keys of a domain spec that all domains have which do not say otherwise.",
        value="a table with keys of a domain spec",
    ),
)

BRAKE_KEYS = (
    Setting(
        "max_destroy",
        'How many domains of ours may be destroyed: a number, or a share of them (at least one, if it is not "0%").',
        'max_destroy = "10%"',
        default='`"20%"`',
    ),
    Setting(
        "max_restart",
        "How many domains of ours may be restarted, counted likewise.",
        'max_restart = "25%"',
        default="no bound",
    ),
)

GIT_KEYS = (
    Setting(
        "require_signed",
        "Which commits have to be signed: none, the newest, or all since the last accepted one.",
        'require_signed = "head"',
    ),
    Setting(
        "allowed_signers",
        "The file of allowed signers (ssh-keygen(1)), a path in the tree or an absolute one.",
        'allowed_signers = "allowed_signers"',
        default="none: needed where commits have to be signed",
    ),
)

NOTIFY_KEYS = (
    Setting("url", "Where it is told.", 'url = "https://example.net/hook"', since="0.2"),
    Setting(
        "url_file",
        "A file with that address, where the address itself is a secret; instead of url.",
        'url_file = "/etc/reconciler/hook"',
        since="0.2",
    ),
    Setting("events", "What is told.", 'events = ["failed", "stalled", "recovered"]', since="0.2"),
    Setting(
        "format",
        "In which form: a JSON document for each event, the commit's status for a forge, or alerts.",
        'format = "github"',
        since="0.2",
    ),
    Setting(
        "secret_file",
        "A file with the secret that signs what is sent.",
        'secret_file = "/etc/reconciler/secret"',
        since="0.2",
    ),
    Setting(
        "token_file",
        "A file with the token that the receiver asks for.",
        'token_file = "/etc/reconciler/token"',
        since="0.2",
    ),
)

PCI_KEYS = (
    Setting("bdf", "The address of the device on the host; with .* all its functions.", 'bdf = "0000:03:00.0"'),
    Setting("name", "Its name, as `xl pci-assignable-add` gave it; instead of bdf.", 'name = "nic"'),
    Setting(
        "vslot", "The slot at which the guest sees it, a hexadecimal number.", 'vslot = "06"', default="xl chooses"
    ),
    Setting(
        "permissive",
        "Let the guest write to all of its configuration space.",
        "permissive = true",
        default="as xl does",
    ),
    Setting("msitranslate", "Translate its interrupts for the guest.", "msitranslate = false", default="as xl does"),
    Setting("power_mgmt", "Let the guest manage its power.", "power_mgmt = true", default="as xl does"),
    Setting("seize", "Take it from its driver in the dom0 at the start.", "seize = true", default="as xl does"),
    Setting(
        "rdm_policy",
        "What becomes of the start where its reserved memory is in the way.",
        'rdm_policy = "relaxed"',
        default="as xl does",
    ),
)
