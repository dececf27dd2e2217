"""The tools of a NetBSD dom0, as far as scripts use them: each refuses what the real one does not have.

A row names the manual page that it follows, of NetBSD 6.1 to 7; what that page does not list is refused, and noted.
Behind that the tool of this machine works, told to stop at the first operand as NetBSD's do. What is in no row is not
there: truncate, fallocate, losetup, realpath, sha256sum, setsid, timeout, bash, lvs and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fake_dom0 import write_tool


@dataclass(frozen=True)
class Tool:
    """`letters` are its options, as getopts has them. `check` is sh that refuses more: `$given` has the letters.

    `works` is sh that does the work; without it the tool of this machine does.
    """

    page: str
    letters: str = ""
    check: str = ""
    works: str = 'exec "$tool" "$@"'


# BSD getopt(3): an option that is not listed is an error, and long ones are not known.
_STAND_IN = """\
PATH=/usr/bin:/bin:/usr/sbin:/sbin POSIXLY_CORRECT=1 tool=${{0##*/}} given=''
export POSIXLY_CORRECT
refuse() {{ echo "$tool: $1 ({page})" >&2; echo "$tool $1" >>{refused}; exit 1; }}
while getopts ':{letters}' letter; do
    case $letter in '?') refuse "unknown option -- $OPTARG" ;; ':') refuse "-$OPTARG needs an argument" ;; esac
    given=$given$letter
done
{check}
{works}"""

_DD = """for word do
    case $word in conv=notrunc | conv=sparse | [io]f=* | bs=* | count=* | seek=* | skip=*) ;; *) refuse "$word" ;; esac
done"""
_FIND = """for word do case $word in -printf | -quit | -readable) refuse "$word" ;; esac done"""
_FLOCK = """case $given in *[xsu]*) ;; *) refuse 'Missing lock type flag' ;; esac"""
_SED = r"""for text do
    case $text in *'\|'* | *'\+'* | *'\?'* | *'[ \t]'*) refuse "$text is no basic expression" ;; esac
done"""
_CKSUM = """shift $((OPTIND - 1))
if [ $# -gt 0 ]; then sha256sum -- "$@" | sed 's/  / /'; else sha256sum | cut -c1-64; fi"""
_STAT = """while getopts 'Lf:' letter; do
    case $letter in L) follow=-L ;; f) format=$OPTARG ;; esac
done
shift $((OPTIND - 1))
theirs=$(printf '%s' "$format" | sed -e 's/%Hr:%Lr/%t:%T/' -e 's/%r/%t:%T/' -e 's/%HT/%F/' -e 's/%Fm/%.9Y/' \\
    -e 's/%Fc/%.9Z/' -e 's/%z/%s/' -e 's/%N/%n/' -e 's/^%m$/%Y/')
stat ${follow:+"$follow"} -c "$theirs" -- "$@" |
    sed -e 's/^regular [a-z ]*file/Regular File/' -e 's/^block special file/Block Device/' -e 's/^directory/Directory/'
for file do [ -e "$file" ] || exit 1; done"""
_SYSCTL = """case $2 in
hw.disknames) echo wd0 vnd0 ;;
kern.boottime) echo 'Fri Dec 26 20:00:44 2014' ;;
*) exit 1 ;;
esac"""

TOOLS: Mapping[str, Tool] = {
    "awk": Tool("awk(1)", "F:f:v:"),
    "cat": Tool("cat(1)", "beflnstuv"),
    "chmod": Tool("chmod(1)", "RHLPfhv"),
    "cksum": Tool("cksum(1)", "na:o:pc", works=_CKSUM),
    "cp": Tool("cp(1)", "RHLPfialNpv"),
    "cut": Tool("cut(1)", "b:c:d:f:ns"),
    "date": Tool("date(1)", "ad:jnr:u"),
    "dd": Tool("dd(1), which has no conv=fsync", "", _DD),
    "df": Tool("df(1)", "agGhiklmnPt:"),
    "dirname": Tool("dirname(1)"),
    "du": Tool("du(1)", "HLPacd:hgikmnrsx"),
    "find": Tool("find(1), PRIMARIES", "HLPdEhsXxf:", _FIND),
    "flock": Tool("flock(1)", "dnosuvxw:", _FLOCK),
    "grep": Tool("grep(1), GNU 2.5.1", "EFGe:f:cHhiLlm:noqrsvwxy"),
    "id": Tool("id(1)", "Ggnpru", works="echo 0"),
    "ifconfig": Tool("ifconfig(8)", "abdhLlmNsuvzC", works="echo wm0 lo0 bridge0 bridge1"),
    "kill": Tool("kill(1)", "s:lKIL0", works='exec kill "$@"'),
    "ln": Tool("ln(1)", "fhinsv"),
    "ls": Tool("ls(1)", "AaBbCcdFfgikLlMmnopqRrSsTtuWwx1hX"),
    "mkdir": Tool("mkdir(1)", "m:p"),
    "mktemp": Tool("mktemp(1): a template, until 7", "dqup:t:", '[ $# -ge "$OPTIND" ] || refuse "no template"'),
    "mv": Tool("mv(1)", "fiv"),
    "nc": Tool("nc(1)", "46DEhklNnrStUuvzC:i:I:O:P:p:q:s:T:V:w:X:x:", works="exit 0"),
    "printf": Tool("printf(1)", works='exec printf "$@"'),
    "readlink": Tool("stat(1): readlink [-fnqsv] [file ...]", "fnqsv"),
    "rm": Tool("rm(1)", "dfiPRrvWx"),
    "rmdir": Tool("rmdir(1)", "p"),
    "sed": Tool("sed(1), re_format(7)", "Ealnre:f:i:I:", _SED),
    "sleep": Tool("sleep(1)"),
    "sort": Tool("sort(1)", "bcCdfHik:lmno:R:rSsT:t:u"),
    "stat": Tool("stat(1), FORMATS", "FLnqf:lrst:x", "OPTIND=1", _STAT),
    "sync": Tool("sync(8), which takes no file", works="exit 0"),
    "sysctl": Tool("sysctl(8)", "AadeMnqrwxf:B:", works=_SYSCTL),
    "tail": Tool("tail(1)", "Ffrb:c:n:"),
    "tar": Tool("tar(1), pax", "014578befHhJjklmOoPpqSvwXZzcrtuxC:s:T:"),
    "touch": Tool("touch(1)", "achmd:r:t:"),
    "tr": Tool("tr(1)", "Ccdsu"),
    "uname": Tool("uname(1)", "amnprsv", works="echo NetBSD"),
    "wc": Tool("wc(1)", "cLlmw", works="wc \"$@\" | sed 's/^/       /'"),
}
PS = Tool(
    "ps(1): cut at 79 columns without -ww",
    "AaCcehjlmrSsTuvwxk:M:N:O:o:p:t:U:W:L",
    "case $given in *w*w*) ;; *) refuse 'no -ww' ;; esac",
)
LVM = Tool("lvm(8), LVM2 of 2009: commands.h")


def write_stand_in(folder: Path, name: str, tool: Tool, refused: Path) -> None:
    words = {"page": tool.page, "letters": tool.letters, "check": tool.check, "works": tool.works}
    write_tool(folder, name, _STAND_IN.format(refused=refused, **words))
