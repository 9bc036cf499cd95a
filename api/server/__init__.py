"""The HTTP server: HTTP/1.1 alone, on one socket that a supervisor opens and its worker answers.

    supervisor.py   opens the socket, starts the worker, starts it again when it dies, ends it
    worker.py       what the worker runs: the application between its start and its end
    connections.py  all connections: how many, how long each may keep the server waiting
    connection.py   one connection: its requests, one after another
    exchange.py     one request and its response, as ASGI has them
    head.py         the head of a request, read in one way only
    content.py      the body of a request: so many bytes, or chunks

TLS and HTTP/2 are a proxy's.
"""
