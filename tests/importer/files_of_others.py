"""Config files as other tools, pages and people write them: those that xl takes, and those that it refuses.

Written here, in the manner of what is named. `REFUSED` has the places that are told of each.
"""

from __future__ import annotations

HEAD = 'name = "b"\nkernel = "/k"\nmemory = 64\n'

HVM = 'name = "b"\ntype = "hvm"\n'

TAKEN = {
    "xen-create-image of Debian": """\
#
# Configuration file for the Xen instance web1
#
kernel      = '/boot/vmlinuz-6.1.0-18-amd64'
extra       = 'elevator=noop'
ramdisk     = '/boot/initrd.img-6.1.0-18-amd64'

vcpus       = '2'
memory      = '1024'
maxmem      = '2048'

root        = '/dev/xvda2 ro'
disk        = [
                  'phy:/dev/vg0/web1-disk,xvda2,w',
                  'phy:/dev/vg0/web1-swap,xvda1,w',
              ]
name        = 'web1'
vif         = [ 'ip=192.168.1.10 ,mac=00:16:3E:5A:11:22,bridge=xenbr0' ]
on_poweroff = 'destroy'
on_reboot   = 'restart'
on_crash    = 'restart'


""",
    "xen-create-image with pygrub": """\
bootloader = 'pygrub'
vcpus = '1'
memory = '512'
root = '/dev/xvda2 ro'
disk = [ 'file:/home/xen/domains/mail/disk.img,xvda2,w', 'file:/home/xen/domains/mail/swap.img,xvda1,w', ]
name = 'mail'
dhcp = 'dhcp'
vif = [ 'mac=00:16:3E:AA:BB:CC' ]
""",
    "an app domain of a desktop": """\
name = "personal"
uuid = "A3B1E5D0-1F22-4B2C-9D10-000000000001"
type = "pvh"
memory = 400
maxmem = 4000
vcpus = 2
kernel = "/var/lib/kernels/6.1.62-1.fc37/vmlinuz"
ramdisk = "/var/lib/kernels/6.1.62-1.fc37/initramfs"
cmdline = "root=/dev/mapper/dmroot ro nomodeset console=hvc0 rd_NO_PLYMOUTH"
disk = [ "vdev=xvda,access=w,backendtype=phy,script=/etc/xen/scripts/block-snap,target=/dev/mapper/dom0-vm--p--root",
  "phy:/dev/mapper/dom0-vm--personal--private,xvdb,w", "vdev=xvdd,access=r,format=raw,target=/var/lib/modules.img" ]
vif = [ "mac=00:16:3e:5e:6c:00,ip=10.137.0.10,backend=sys-firewall,script=vif-route" ]
on_reboot = "destroy"
""",
    "a driver domain": """\
name = "sys-net"
type = "hvm"
memory = 400
device_model_version = "qemu-xen"
device_model_stubdomain_override = 1
stubdomain_memory = 140
pci = [ '00:1f.6,permissive=1,seize=1', '0000:03:00.0@1f', '0a:00.*@5' ]
viridian = [ "all", "!hcall_ipi" ]
nographic = 1
driver_domain = 1
""",
    "NetBSD": """\
# -*- mode: python; -*-
name = "nbsd"
kernel = "/netbsd-XEN3_DOMU"
memory = 128
vif = [ 'mac=aa:00:00:d1:00:09,bridge=bridge0' ]
disk = [ 'file:/n0/xen/foo-wd0,0x0,w', 'file:/n0/xen/foo-wd1,0x1,w', 'phy:/dev/cd0a,0x04,r' ]
root = "xbd0"
extra = ""
""",
    "libvirt": """\
name = "XenGuest2"
maxmem = 579
memory = 394
pae = 1
acpi = 1
viridian = 0
rtc_timeoffset = 0
on_crash = "restart"
device_model_override = "/usr/lib/xen/bin/qemu-system-i386"
sdl = 0
vnc = 1
vncunused = 1
vnclisten = "127.0.0.1"
vif = [ "mac=00:16:3e:66:92:9c,bridge=xenbr1,script=vif-bridge,model=e1000", "mac=00:16:3e:66:92:9d,rate=10240KB/s" ]
parallel = "none"
serial = "none"
builder = "hvm"
boot = "d"
disk = [ "format=raw,vdev=hda,access=rw,backendtype=phy,target=/dev/HostVG/XenGuest2",
  "format=qcow2,vdev=hdb,access=rw,backendtype=qdisk,target=/var/lib/libvirt/images/home",
  "format=raw,vdev=hdc,access=ro,backendtype=qdisk,devtype=cdrom,target=/root/boot.iso" ]
""",
    "Alpine": """\
# Alpine Linux PV DomU

# Kernel paths for install
kernel = "/media/alpine/boot/vmlinuz-lts"
extra="modules=loop,squashfs console=hvc0"
disk = [
        'format=raw, vdev=xvda, access=w, target=/data/alpine.img',
        'format=raw, vdev=xvdc, access=r, devtype=cdrom, target=/data/alpine.iso'
       ]
vif = ['bridge=br0']
memory = 512
name = "alpine-domu"
""",
    "FreeBSD": """\
type = "hvm"
name = "freebsd"
memory = 1024
vif = [ 'mac=00:16:3E:74:34:32,bridge=bridge0' ]
disk = [
'/dev/zvol/tank/xendisk0,raw,hda,rw',
'/root/13.1-RELEASE-amd64-bootonly.iso,raw,hdc:cdrom,r'
  ]
vnc = 1
vnclisten = "0.0.0.0"
serial = "pty"
usbdevice = "tablet"
""",
    "a pool of hosts": """\
name = "xs"
builder = "hvm"
memory = 2048
shadow_memory = 24
cpuid = [ "0x1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1" ]
vendor_device = "xenserver"
timer_mode = 1
vga = "stdvga"
videoram = 8
disk = [ "/dev/VG_Storage-1/LV-1,raw,xvda,w" ]
vif = [ "mac=2a:5c:d9:f0:00:01,bridge=xapi0,rate=1024KB/s" ]
""",
    "a desktop with everything": """\
name = "win10"
builder = "hvm"
memory = 4096
vcpus = 4
localtime = 1
boot = "cd"
vga = "qxl"
spice = 1
spicehost = "0.0.0.0"
spiceport = 6000
spicevdagent = 1
soundhw = "hda"
usbversion = 3
usbredirection = 4
hdtype = "ahci"
bios = "SeaBIOS"
disk = [ "format=raw, vdev=hda, access=rw, discard, target=/dev/vg/win", ",hdd:cdrom,r" ]
nestedhvm = 1
cpuid = "host,vmx=0"
rdm = "strategy=host,policy=relaxed"
""",
    "an Arm board": """\
name = "arm"
kernel = "Image"
extra = "console=hvc0"
memory = 512
dtdev = [ "/soc/x" ]
device_tree = "/xt/domu.dtb"
iomem = [ "0xfe000,1", "fe000,1@fe000" ]
irqs = [ 75 ]
virtio = [ "type=virtio,device,transport=mmio" ]
gic_version = "v3"
vuart = "sbsa_uart"
""",
    "numbers of each kind": "name='n'\nkernel='/k'\nmemory = 0x80\nmaxmem = 0x100\nvcpus = 010\ncap = '-1'\n"
    "vif = [ 'mac=0:16:3e:1:2:3,mtu=0', 'mac=00:00:00:00:00:00' ]\ndisk = [ 'file:/a,0x301,r' ]\n",
    "+= in each form": "name = 'p'\nname += 'q'\nkernel = '/k'\nmemory = 64\ndisk = []\ndisk += [ '/a,raw,xvda,w' ]\n"
    "disk += [ '/b,raw,xvdb,w', ]\nvif += [ 'bridge=b' ]\nextra += 'x'\n",
    "comments everywhere": "name = 'c' # name\nkernel = '/k' ; memory = 64 # two in a line; yes\ndisk = [ # first\n"
    "  '/a,raw,xvda,w', # data\n  # '/b,raw,xvdb,w',\n  '/c#d,raw,xvdc,w' # c\n] # end\nextra = 'a # b' # c\n;;;\n",
    "strings with escapes": r"""name = "e"
kernel = "/k"
memory = 64
extra = "a \"b\" \\ c 'd'\te"
root = '/dev/xvda \'x\''
""",
    "lists in lists": HEAD + "disk = [ [ '/a,raw,xvda,w' ] ]\nfoo = " + "[" * 99 + "]" * 99 + "\n",
    "no new line at the end": 'name="a";kernel="/k";memory=64;disk=["/a,raw,xvda,w"];',
    "tabs": '\tname\t=\t"a"\n  kernel = "/k"\n\tmemory = 64\n',
    "keys with dots": HEAD + 'a.b.c = "x"\n',
    "drivers of old": HEAD + 'disk = [ "tap:aio:/srv/a.img,xvda,w", "tap:qcow2:/b,xvdb,w",'
    ' "tap2:vhd:/c,xvdc,w", "tapdisk:/d,xvdd,w", "aio:/e,xvde,w" ]\n',
    "disks over the network": HEAD + 'disk = [ "drbd:r0,xvda,w", "nbd:10.0.0.1 9000,xvdb,w",'
    ' "iscsi:iqn.2009-10.org:storage,xvdc,w" ]\n',
    "colons in paths": HVM + "memory = 64\n"
    'disk = [ "phy:/dev/disk/by-path/pci-0000:00:1f.2-scsi-0:0:0:0,hda,w", "/dev/cdrom,,hdc,cdrom" ]\n',
    "paths in odd spellings": HEAD
    + 'disk = [ "vg0/a,raw,xvda,w", "file:b.img,xvdb,w", "/srv//a.img,raw,xvdc,w", "/srv/./c,raw,xvdd,w" ]\n',
    "vifs in odd spellings": HEAD + 'vif = [ " mac = 00:16:3e:1:2:3 , bridge = br0 ",'
    ' "bridge=br0,,", ",bridge=br1", "mac=00-16-3e-00-00-01", "rate=1GB/s@10us", "eth0", "mac=XX:XX" ]\n',
    "a console over the network": HEAD + 'vfb = [ "type=vnc,vncunused=1,vnclisten=0.0.0.0,vncpasswd=geheim" ]\n',
    "the loader of old": 'name = "b"\nbuilder = "hvm"\nkernel = "/usr/lib/xen-4.0/boot/hvmloader"\nmemory = 64\n'
    'device_model = "/usr/lib/xen/bin/qemu-dm"\nvncconsole = 1\n',
    "a kernel for hvm": HVM + 'kernel = "/boot/vmlinuz"\nramdisk = "/i"\ncmdline = "x"\nmemory = 64\n',
    "firmware of hvm": HVM + 'firmware = "uefi"\nfirmware_override = "/usr/share/ovmf.fd"\nmemory = 64\n',
    "pvgrub": 'name = "b"\nfirmware = "pvgrub64"\nmemory = 64\n',
    "a bootloader with arguments": 'name = "b"\nbootloader = "/usr/bin/pygrub"\nbootloader_args = "--entry 1  -q"\n'
    "memory = 64\n",
    "arguments without a bootloader": HEAD + 'bootloader_args = [ "--entry=1" ]\n',
    "a ramdisk for the bootloader": 'name = "b"\nbootloader = "pygrub"\nramdisk = "/boot/initrd.img"\nmemory = 64\n',
    "a kernel beside the file": 'name = "b"\nkernel = "./vmlinuz"\nramdisk = "sub/../initrd"\nmemory = 64\n',
    "cpus one by one": HEAD + 'vcpus = 4\ncpus = [ "2", "3", 0, 1 ]\ncpus_soft = "all"\n',
    "more cpus than vcpus": HEAD + 'vcpus = 1\ncpus = [ "0", "1", "2" ]\n',
    "maxvcpus alone": HEAD + 'maxvcpus = 2\ncpus = [ "0", "1" ]\n',
    "values of the wrong kind": 'name = "b"\nkernel = "/k"\nmemory = " 64"\nmaxmem = "128 "\ndisk = "/a,raw,xvda,w"\n'
    'vif = "bridge=b"\nvcpus = 99999999999999999999\n',
    "events": HEAD + 'on_poweroff = "preserve"\non_reboot = "rename-restart"\n'
    'on_crash = "coredump-restart"\non_watchdog = "restart"\non_soft_reset = "soft-reset"\n',
    "the scheduler": HEAD + "cpu_weight = 512\ncap = 50\nperiod = 30\nextratime = 1\n",
    "ports and channels": HEAD + 'ioports = [ "0x2f8-0x2ff", "3F8" ]\nirqs = [ "3" ]\n'
    'channel = [ "connection=socket, name=org.qemu.guest_agent.0,path=/run/x" ]\n',
    "a negative number": HVM + 'memory = 64\nrtc_timeoffset = "-3600"\n',
    "a long line": HEAD + 'extra = "' + "x" * 3000 + '"\n',
    "Latin-1 in a comment": 'name = "a"\nkernel = "/k"\nmemory = 64 # f\udcfcr\n',
    "a name that no spec has": 'name = "bär 1"\nkernel = "/k"\nmemory = 64\nextra = "motd=grüße"\n',
    "many disks": HEAD
    + "disk = [ "
    + ", ".join(f'"/srv/{at},raw,xvd{at},w"' for at in ["a", "b", "z", "aa", "ab"])
    + " ]\n",
}

REFUSED = {
    "hvm with Python": (
        "import os, re\narch = os.uname()[4]\nif os.uname()[0] == 'Linux':\n    arch_libdir = 'lib64'\n"
        "builder = 'hvm'\nmemory = 128\nname = 'x'\ndevice_model = '/usr/' + arch + '/qemu-dm'\n",
        ["1:8", "2:8", "3:4", "8:24"],
    ),
    "a template": ("def check():\n    pass\nvmid = 3\nname = 'VM%d' % vmid\nmemory = 64\n", ["1:5", "4:15"]),
    "Python with a margin": (
        "  import os\n  if os.uname():\n  lib = 'lib64'\n  else:\n  lib = 'lib'\n  name = 'x'\n"
        "  kernel = '/' + lib\n  memory = 64\n  on_crash = 'x'\n",
        ["1:10", "2:6", "4:7", "7:16", "9:14"],
    ),
    "a backslash at the end": (HEAD + 'disk = [ "/a,raw,xvda,w",\\\n  "/b,raw,xvdb,w" ]\ncap = yes\n', ["4:26", "6:7"]),
    "three quotes": ('name = "h"\nkernel = "/k"\nextra = """quiet\nsplash"""\nmemory = 64\n', ["3:11", "4:7"]),
    "strings added": ('name = "p" + "q"\nkernel = "/k"\nmemory = 64\n', ["1:12"]),
    "an escape of C": ('name = "e"\nkernel = "/k"\nmemory = 64\nextra = "a\\x41"\n', ["4:9"]),
    "a byte order mark": ('\ufeffname = "b"\nkernel = "/k"\nmemory = 64\n', ["1:1"]),
    "Windows": ('name = "b"\r\nkernel = "/k"\r\nmemory = 64\r\non_crash = "x"\r\n', ["1:11", "4:12"]),
    "an old Mac": ('name = "b"\rkernel = "/k"\rmemory = 64\r', ["1:11"]),
    "a string without end": ('name = "b\nkernel = "/k"\nmemory = 64\non_crash = "x"\n', ["1:8", "4:12"]),
    "a list without end": (HEAD + 'disk = [ "/a,raw,xvda,w"\nvcpus = 2\n', ["5:1"]),
    "a comment without end": (HEAD + "# end", ["4:1"]),
    "other quotes and blanks": ("name = \u201cb\u201d\nkernel\u00a0= '/k'\nmemory = 64\n", ["1:8", "2:7"]),
    "keys in capitals": ('Name = "b"\nKERNEL = "/k"\nmemory = 64\n', ["1:1", "2:1"]),
    "keys with a dash": (HEAD + 'on-crash = "restart"\n', ["4:3"]),
    "yes": (HEAD + "localtime = yes\n", ["4:13"]),
    "a fraction": ('name = "b"\nkernel = "/k"\nmemory = 64.5\n', ["3:12"]),
    "a negative number": (HEAD + "rtc_timeoffset = -3600\n", ["4:18"]),
    "no comma": (HEAD + 'disk = [ "/a,raw,xvda,w" "/b,raw,xvdb,w" ]\n', ["4:26"]),
    "nothing to boot": ('name = "b"\nmemory = 64\non_crash = "enable"\n', ["1:1", "3:12"]),
    "words of xm": (
        'name = "b"\nbuilder = "linux"\nkernel = "/k"\n'
        'memory = 64\ndisk = [ "/a,raw,xvda,w!", "/b , raw , xvdb , w" ]\n',
        ["2:11", "5:10", "5:28"],
    ),
    "no cpus": (HEAD + 'vcpus = 2\ncpus = "0, 2-3 ,^1"\n', ["5:8"]),
    "no uuid": (HEAD + 'uuid = "a3b1e5d01f224b2c9d10000000000001"\n', ["4:8"]),
    "no device": (HEAD + 'disk = [ "" ]\npci = [ "", "0000:05:00.0=1" ]\n', ["4:10", "5:9", "5:13"]),
    "empty arguments": ('name = "a"\nbootloader = "pygrub"\nbootloader_args = ""\nmemory = 64\n', ["3:19"]),
    "XML": ("<domain type='xen'><name>a</name></domain>\n", ["1:1"]),
    "an S-expression": ("(domain (name a) (memory 64))\n", ["1:1"]),
    "a spec": ('type = "pv"\nkernel = "/k"\nmemory = "1GiB"\n[[disk]]\nvdev = "xvda"\npath = "/a"\n', ["4:1"]),
}
