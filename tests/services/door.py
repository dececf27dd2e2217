"""The door to simulated hosts, over a real network: whoever gets a word here reaches them.

It is run where the hosts are meant to be. `distant_watch` knocks before each command.
"""

from __future__ import annotations

import socket
import sys

WORD = b"come in"


def main() -> None:
    with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
        while True:
            caller, _ = server.accept()
            with caller:
                caller.sendall(WORD)


if __name__ == "__main__":
    main()
