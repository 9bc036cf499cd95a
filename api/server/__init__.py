"""The HTTP server: HTTP/1.1 alone, on one socket that a supervisor opens and its worker answers.

    supervisor.py   opens the socket, starts the worker, starts it again when it dies, ends it
    worker.py       what the worker runs: the application between its start and its end
    serving.py      uvicorn's server, with bounds on what all connections cost together
    protocol.py     one connection: each request is checked, then parsed by llhttp, then answered
    limits.py       uvicorn's protocol, with how long a connection may keep the server waiting
    transport.py    how a connection ends, so that the client can read the last response
    head.py         what is refused of a head though llhttp takes it
    chunks.py       where a body in chunks ends, and what is refused of it though llhttp takes it

TLS and HTTP/2 are a proxy's.
"""
