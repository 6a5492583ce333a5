"""Serve the repositories of a folder, read-only, over the Git protocol: git_mirror_serve.py FOLDER PORT.

`git daemon` does the work, a process for each client. It could listen itself, but then five connections wait at most:
of 64 clones at once, 13 were reset. Here as many may wait as a cluster can start.
"""

import socket
import socketserver
import subprocess
import sys

WAITING = 1024
"""Connections that may wait to be accepted; Linux limits it to net.core.somaxconn, 4096 by default."""
SILENT_SECONDS = 30
"""A client that has not said what it wants by then is dismissed."""
TRANSFER_SECONDS = 300
"""A client that takes nothing for so long is dismissed."""


class Client(socketserver.BaseRequestHandler):
    """One client, until its clone is complete."""

    def handle(self) -> None:
        """Leave the connection to a process of git."""
        folder = sys.argv[1]
        command = ["git", "daemon", "--inetd", "--log-destination=stderr", "--export-all", f"--base-path={folder}"]
        command += [f"--init-timeout={SILENT_SECONDS}", f"--timeout={TRANSFER_SECONDS}", folder]
        subprocess.run(command, stdin=self.request, stdout=self.request, check=False)


class Server(socketserver.ThreadingTCPServer):
    """Accepts at once, on IPv4 and IPv6 where there is both."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        """Listen on a port of every address."""
        super().__init__(("", port), Client, bind_and_activate=False)
        self.socket.close()
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self.socket = socket.create_server(("", port), family=family, backlog=WAITING, dualstack_ipv6=both)


def main() -> None:
    """Serve until the end."""
    with Server(int(sys.argv[2])) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
