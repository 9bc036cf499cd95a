"""`python -m api.server DESCRIPTOR`: what `serve` becomes once its socket is open. It imports nothing of the application, whose modules are large."""

import socket
import sys

from api.server.supervisor import supervise

if __name__ == "__main__":
    sys.exit(supervise(socket.socket(fileno=int(sys.argv[1]))))
