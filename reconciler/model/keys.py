"""The table of the keys of a domain spec: each is taught here, once.

What compares, digests, renders, reads, lists and imports definitions follows from these rows, and so do the JSON Schema
and docs/reference. To add an ordinary key, give `Domain` (or `Disk`, `Vif`) a field and write a row. Where there is
more to say than a row can, `worked_out` says so, and the code that knows names the key.
"""

from __future__ import annotations

from reconciler.model.domain import Disk, Domain, Ready, Vif
from reconciler.model.key_row import Choice, Key, Kind, Takes, Whole

VCPUS_MAX = 8192  # Xen's MAX_VIRT_CPUS

_ACTIONS = Choice(
    ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset")
)
_STATES = Choice(("running", "stopped"))
_PATIENCE = Choice(("fail", "destroy"))
DEVICES, DURATION, FILE, FLAG, LINE = Kind.DEVICES, Kind.DURATION, Kind.FILE, Kind.FLAG, Kind.LINE
NAMES, ORDER, SECONDS, SIZE = Kind.NAMES, Kind.ORDER, Kind.SECONDS, Kind.SIZE
TABLE, TABLES, WORD, WORDS = Kind.TABLE, Kind.TABLES, Kind.WORD, Kind.WORDS
CEILING, LIVE, NOTHING = Takes.CEILING, Takes.LIVE, Takes.NOTHING

# fmt: off
DOMAIN_KEYS: tuple[Key[Domain], ...] = (
    Key("name", WORD, "The domain's name, which is the name of its file: no key of the file.",
        of=lambda d: d.name, boot="", in_spec=False, listed=("c_info", "name"), worked_out=True),
    Key("profile", WORDS, "Profiles to build on, the later ones stronger: tables merge, everything else replaces.",
        takes=NOTHING, in_cfg=False, example='profile = ["linux", "small"]'),
    Key("type", Choice(("pv", "pvh", "hvm")), "How the domain is virtualized.",
        of=lambda d: d.type, default="pv", boot="type", rolled_back=True, worked_out=True, example='type = "pvh"'),
    Key("kernel", FILE, "The kernel: a file of the spec tree or, by an absolute path, of the host. It is staged.",
        of=lambda d: d.kernel, listed=("b_info", "kernel"), boot="images", rolled_back=True, worked_out=True,
        boots=True, example='kernel = "kernels/vmlinuz-6.1"'),
    Key("kernel_sha256", WORD, "The sha256 that the kernel must have.",
        takes=NOTHING, in_cfg=False, needs="kernel"),
    Key("ramdisk", FILE, "The ramdisk of the kernel, named and copied like it.",
        of=lambda d: d.ramdisk, listed=("b_info", "ramdisk"), boot="images", rolled_back=True, worked_out=True,
        needs="kernel", example='ramdisk = "kernels/initrd-6.1"'),
    Key("ramdisk_sha256", WORD, "The sha256 that the ramdisk must have.",
        takes=NOTHING, in_cfg=False, needs="ramdisk"),
    Key("cmdline", LINE, "The kernel's command line. Written so, or as root and extra.",
        of=lambda d: d.cmdline, listed=("b_info", "cmdline"), boot="cmdline", rolled_back=True, worked_out=True,
        example='cmdline = "root=/dev/xvda1 ro"'),
    Key("root", LINE, "The root device: the command line begins with root= and this.",
        example='root = "/dev/xvda1"'),
    Key("extra", LINE, "What stands in the command line behind root=.",
        example='extra = "ro quiet"'),
    Key("bootloader", WORD, "A program of the dom0 that finds the kernel in the first disk, such as pygrub.",
        of=lambda d: d.bootloader, listed=("b_info", "bootloader"), boot="bootloader", rolled_back=True,
        allowed_by="bootloaders", boots=True, example='bootloader = "pygrub"'),
    Key("bootloader_args", WORDS, "What the bootloader is called with.",
        of=lambda d: d.bootloader_args, default=(), listed=("b_info", "bootloader_args"), boot="bootloader",
        rolled_back=True, needs="bootloader", example='bootloader_args = ["--kernel=/vmlinuz"]'),
    Key("firmware", WORD, "The firmware to boot from: pvgrub32 or pvgrub64 for pv; bios, ovmf and the like for hvm.",
        of=lambda d: d.firmware, boot="firmware", rolled_back=True, allowed_by="bootloaders", boots=True,
        example='firmware = "ovmf"'),
    Key("memory", SIZE, "The memory that the domain has: an integer counts MiB.",
        of=lambda d: d.memory_kib, field="memory_kib", takes=LIVE, listed=("b_info", "target_memkb"), worked_out=True,
        example='memory = "2GiB"'),
    Key("maxmem", SIZE, "The memory that it can be given without a restart.",
        of=lambda d: d.maxmem_kib, field="maxmem_kib", takes=CEILING, listed=("b_info", "max_memkb"),
        boot="maxmem_kib", worked_out=True, floor="memory", example='maxmem = "4GiB"'),
    Key("vcpus", Whole(1, VCPUS_MAX), "The virtual cpus that it has.",
        of=lambda d: d.vcpus, default=1, takes=LIVE, worked_out=True, example="vcpus = 2"),
    Key("maxvcpus", Whole(1, VCPUS_MAX), "The virtual cpus that it can be given without a restart.",
        of=lambda d: d.maxvcpus, default=1, takes=CEILING, listed=("b_info", "max_vcpus"), boot="maxvcpus",
        worked_out=True, floor="vcpus", example="maxvcpus = 4"),
    Key("cpus", WORD, "The cpus of the host that it may run on.",
        of=lambda d: d.cpus, boot="cpus", example='cpus = "0-3,^1"'),
    Key("cpu_weight", Whole(1, 65535), "Its share of cpu time where that is short: twice the weight is twice the time.",
        of=lambda d: d.cpu_weight, unset=256, takes=LIVE, listed=("b_info", "sched_params", "weight"),
        share_option="-w", example="cpu_weight = 512"),
    Key("cap", Whole(0, 100 * VCPUS_MAX), "The most cpu time it gets, in percent of one cpu; 0 is no limit.",
        of=lambda d: d.cap, unset=0, takes=LIVE, listed=("b_info", "sched_params", "cap"), share_option="-c",
        example="cap = 50"),
    Key("disk", TABLES, "Its disks, in the order that xl is given. A new one is attached live, except to hvm domains.",
        field="disks", listed=("disks",), boot="disks", worked_out=True,
        example='[[disk]]\nvdev = "xvda"\nlv = "vg0/web"\nsize = "10GiB"'),
    Key("vif", TABLES, "Its interfaces. They are attached and detached live, except of hvm domains.",
        field="vifs", listed=("nics",), boot="vifs", worked_out=True, example='[[vif]]\nbridge = "xenbr0"'),
    Key("pci", DEVICES, "PCI devices of the host that it is given; host.toml has to allow each.",
        of=lambda d: d.pci, default=(), listed=("pcidevs",), boot="pci", worked_out=True, allowed_by="pci",
        example='pci = ["0000:03:00.0"]'),
    Key("on_poweroff", _ACTIONS, "What becomes of it when it powers off.",
        of=lambda d: d.on_poweroff, default="destroy", listed=("on_poweroff",), boot="on",
        example='on_poweroff = "preserve"'),
    Key("on_reboot", _ACTIONS, "What becomes of it when it reboots.",
        of=lambda d: d.on_reboot, default="restart", listed=("on_reboot",), boot="on",
        example='on_reboot = "destroy"'),
    Key("on_crash", _ACTIONS, "What becomes of it when its kernel crashes.",
        of=lambda d: d.on_crash, default="destroy", listed=("on_crash",), boot="on", example='on_crash = "restart"'),
    Key("on_watchdog", _ACTIONS, "What becomes of it when its watchdog is not served in time.",
        of=lambda d: d.on_watchdog, default="destroy", listed=("on_watchdog",), boot="on",
        example='on_watchdog = "restart"'),
    Key("state", _STATES, "Whether it is to run. A stopped domain has its config file, kernel and disks all the same.",
        of=lambda d: d.state, default="running", takes=NOTHING, in_cfg=False, kept=True, example='state = "stopped"'),
    Key("autostart", ORDER, "Whether the dom0 itself starts it at boot, and in which place (true is place 500).",
        of=lambda d: d.autostart, takes=LIVE, in_cfg=False, example="autostart = 20"),
    Key("depends_on", NAMES, "Domains of the same host that have to be ready before it starts, and that stop after it.",
        of=lambda d: d.depends_on, default=(), takes=LIVE, in_cfg=False, kept=True, worked_out=True,
        example='depends_on = ["db"]'),
    Key("wave", Whole(-999, 999), "Lower waves are ready before higher ones begin; a canary is a domain in wave -1.",
        of=lambda d: d.policy.wave, also=("policy",), default=0, takes=NOTHING, in_cfg=False, worked_out=True,
        example="wave = -1"),
    Key("prevent_destroy", FLAG, "It is not destroyed when its file goes: that takes a commit that says false before.",
        of=lambda d: d.prevent_destroy, default=False, takes=LIVE, in_cfg=False, kept=True,
        example="prevent_destroy = true"),
    Key("reconcile", FLAG, "With false, what differs is shown and never changed.",
        of=lambda d: d.policy.reconcile, also=("policy",), default=True, takes=NOTHING, in_cfg=False, worked_out=True,
        example="reconcile = false"),
    Key("restart", Choice(("auto", "defer")), "With defer, what takes a restart waits for `apply --restart ADDRESS`.",
        of=lambda d: d.policy.restart, also=("policy",), default="auto", takes=NOTHING, in_cfg=False, worked_out=True,
        example='restart = "defer"'),
    Key("shutdown_timeout", DURATION, "How long it may take to shut down.",
        of=lambda d: d.shutdown_timeout_seconds, field="shutdown_timeout_seconds", default=90.0, takes=LIVE,
        in_cfg=False, kept=True, example='shutdown_timeout = "5m"'),
    Key("on_shutdown_timeout", _PATIENCE, "What is done then: give up, or pull the plug, which can lose data.",
        of=lambda d: d.on_shutdown_timeout, default="fail", takes=LIVE, in_cfg=False, kept=True,
        example='on_shutdown_timeout = "destroy"'),
    Key("ready", TABLE, "How to tell that a started domain is ready.",
        also=("policy",), takes=NOTHING, in_cfg=False, worked_out=True,
        example='[ready]\ntimeout = "3m"\ntcp = "10.0.0.9:22"'),
    Key("xl", TABLE, "Any other key of xl.cfg(5), passed on as it is; host.toml has to allow each.",
        boot="xl", in_cfg=False, worked_out=True, example="[xl]\nnomigrate = 1"),
    Key("uuid", WORD, "Its identity, derived from fleet and name; given only to keep that of an adopted domain.",
        of=lambda d: d.uuid, boot="", listed=("c_info", "uuid"), worked_out=True,
        example='uuid = "8b3c1f0e-5d6a-5c1e-9f57-1b2d3c4e5f60"'),
)
"""Those of a domain's own file, of a profile, and of `[defaults]`, in the order in which files have them."""

DISK_KEYS: tuple[Key[Disk], ...] = (
    Key("vdev", WORD, "What the guest knows it by; hda, 0x300 and 768 are one place.",
        of=lambda d: d.vdev, also=("devid",), takes=NOTHING, worked_out=True, example='vdev = "xvda"'),
    Key("path", WORD, "The file that holds it. Give this, lv or device.",
        also=("kind", "target"), in_cfg=False, worked_out=True, example='path = "/srv/web.img"'),
    Key("lv", WORD, "The logical volume that holds it.",
        also=("kind", "target"), in_cfg=False, worked_out=True, example='lv = "vg0/web"'),
    Key("device", WORD, "The device that holds it, used as it is: never created, grown or deleted.",
        also=("kind", "target"), in_cfg=False, worked_out=True, example='device = "/dev/disk/by-id/wwn-0x5000"'),
    Key("size", SIZE, "How large it is made; one that is raised grows it live (a file on NetBSD at the next start).",
        field="size_bytes", in_cfg=False, worked_out=True, example='size = "10GiB"'),
    Key("format", Choice(("raw", "qcow2")), "The format of the file.",
        of=lambda d: d.format, boot="disks", default="raw", listed=("format",), worked_out=True,
        example='format = "qcow2"'),
    Key("access", Choice(("rw", "ro")), "Whether the guest may write to it.",
        of=lambda d: d.access, default="rw", boot="disks", worked_out=True, example='access = "ro"'),
    Key("source", WORD, "An image of the host that it is cloned from when it is created.",
        takes=NOTHING, in_cfg=False, worked_out=True, example='source = "/srv/images/debian12.img"'),
    Key("allocate", Choice(("sparse", "full")), "Whether a new file takes its whole room at once.",
        default="sparse", takes=NOTHING, in_cfg=False, example='allocate = "full"'),
    Key("on_delete", Choice(("keep", "delete")), "What becomes of it when its domain is destroyed.",
        of=lambda d: d.on_delete, default="keep", takes=LIVE, in_cfg=False, kept=True,
        example='on_delete = "delete"'),
)

VIF_KEYS: tuple[Key[Vif], ...] = (
    Key("mac", WORD, "Its address, and identity; left out, it is derived from the domain's uuid and its place.",
        of=lambda v: v.mac, boot="vifs", also=("devid", "named"), worked_out=True, example='mac = "00:16:3e:12:34:56"'),
    Key("bridge", WORD, "The bridge of the host that it is on; left out, xl's default.",
        of=lambda v: v.bridge, boot="vifs", listed=("bridge",), example='bridge = "xenbr0"'),
    Key("ip", WORD, "What the script is told of its addresses.",
        of=lambda v: v.ip, boot="vifs", listed=("ip",), example='ip = "10.0.0.9"'),
    Key("script", WORD, "The script of the dom0 that brings it up.",
        of=lambda v: v.script, boot="vifs", listed=("script",), worked_out=True, allowed_by="scripts",
        example='script = "vif-nat"'),
    Key("rate", WORD, "The most that it sends.",
        of=lambda v: v.rate, boot="vifs", worked_out=True, example='rate = "10Mb/s"'),
    Key("model", WORD, "The card that is emulated; hvm only.",
        of=lambda v: v.model, boot="vifs", listed=("model",), example='model = "e1000"'),
    Key("type", Choice(("ioemu", "vif")), "Whether a card is emulated (hvm only) or not.",
        of=lambda v: v.type, boot="vifs", worked_out=True, example='type = "vif"'),
    Key("vifname", WORD, "The name of its end in the dom0.",
        of=lambda v: v.vifname, boot="vifs", listed=("ifname",), example='vifname = "web0"'),
)

READY_KEYS: tuple[Key[Ready], ...] = (
    Key("timeout", DURATION, "How long it may take to get ready.",
        of=lambda r: r.timeout_seconds, field="timeout_seconds", default=120.0, takes=NOTHING, in_cfg=False,
        example='timeout = "3m"'),
    Key("min_seconds", SECONDS, "How long it has to run, with its devices connected.",
        of=lambda r: r.min_seconds, default=5.0, takes=NOTHING, in_cfg=False, example="min_seconds = 10"),
    Key("tcp", WORD, "An address and port that has to answer.",
        of=lambda r: r.tcp, takes=NOTHING, in_cfg=False, example='tcp = "10.0.0.9:22"'),
    Key("console", LINE, "A regular expression (of RE2) that has to be found in what it prints on its console.",
        of=lambda r: r.console, takes=NOTHING, in_cfg=False, example='console = "login:"'),
)
