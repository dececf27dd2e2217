"""The part of scripts for a dom0 that puts secrets into config files of ours, and tells which changed since.

Only here a secret is read: by awk, from its file, so that it is in no argument, and goes nowhere but into the config
file, which root alone can read. The lines are those of `specs.secret_files`.
"""

from __future__ import annotations

# `value` becomes the line of a key, of what the file at `path` holds now; "" where there is nothing to read.
_AWK = r"""
function read_value(key, path,    line, at, letter, out) {
    line = ""
    if ((getline line < path) <= 0) line = ""
    close(path)
    sub(/\r$/, "", line)
    if (line == "") return ""
    for (at = 1; at <= length(line); at++) {
        letter = substr(line, at, 1)
        out = out (letter == "\\" || letter == "\"" ? "\\" : "") letter
    }
    return key " = \"" out "\""
}
function read_comment() {
    key = $3
    path = substr($0, length("# reconciler-secret: ") + length(key) + 2)
    before = sub(/ \(as it was before\)$/, "", path)
}
"""

SECRET_LINES_SH = rf"""
secret_awk='{_AWK}'

# Puts the values behind the comments of the config file FROM. What is to stay as it was is taken from the file OLD.
fill_secrets() {{ # FROM OLD
    grep -q '^# reconciler-secret: ' "$1" || return 0
    missing=$(sed -n -e 's/ (as it was before)$//' -e 's/^# reconciler-secret: [a-z]* \(\/.*\)$/\1/p' "$1" |
        while IFS= read -r secret; do [ -f "$secret" ] && [ -s "$secret" ] || printf '%s\n' "$secret"; done)
    [ -z "$missing" ] ||
        fail "${{missing%%"$nl"*}}, which holds a password, is not there or is empty." "Put it there, in one line."
    if [ -f "$2" ]; then old=$2; else old=/dev/null; fi
    awk -v old="$old" "$secret_awk"'
        BEGIN {{
            while ((getline line < old) > 0) {{
                if (last != "" && index(line, last " = ") == 1) held[last] = line
                last = ""
                if (line ~ /^# reconciler-secret: /) {{ split(line, part, " "); last = part[3] }}
            }}
        }}
        function put() {{ if (wanted != "") print wanted; wanted = "" }}
        wanted != "" && index($0, key " = ") == 1 {{ wanted = "" }}
        {{ put() }}
        /^# reconciler-secret: / {{
            read_comment()
            print "# reconciler-secret: " key " " path
            wanted = (before && key in held) ? held[key] : read_value(key, path)
            if (wanted == "") exit 1
            next
        }}
        {{ print }}
        END {{ put() }}' "$1" >"$1.filled" ||
        fail "A password that $target needs is empty." "Put it into the first line of its file."
    mv -f -- "$1.filled" "$1"
}}

# Prints a key, a blank and the path for each value that is no longer the one in its file, of these config files. Called
# in a subshell.
changed_secrets() {{
    [ $# -gt 0 ] || return 0
    set -f
    IFS='
'
    set -- $(grep -l '^# reconciler-secret: ' -- "$@" 2>/dev/null)
    for file do
        awk "$secret_awk"'
            function compare(line) {{ if (wanted != "" && line != wanted) print key, FILENAME; wanted = "" }}
            {{ compare($0) }}
            /^# reconciler-secret: / {{ read_comment(); wanted = read_value(key, path) }}
            END {{ compare("") }}' "$file"
    done
}}
"""
