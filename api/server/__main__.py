"""`python -m api.server DESCRIPTOR [DESCRIPTOR]`: the supervisor process, which `serve` starts once its socket is open. The second socket is that of
the operations port.

It does not import the application, whose modules take much memory.
"""

import socket
import sys

from api.server.supervisor import supervise

if __name__ == "__main__":
    sys.exit(supervise(*(socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:])))
