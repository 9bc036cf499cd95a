"""The HTTP/1.1 server, which adds strict parsing and limits to uvicorn. A reverse proxy provides TLS and HTTP/2.

supervisor.py   opens the socket, starts the worker process, restarts it when it dies, stops it
worker.py       the worker process: runs the application on the supervisor's socket
serving.py      uvicorn's server, with limits on all connections together
protocol.py     one connection: checks each request, has llhttp parse it, and answers it
limits.py       uvicorn's protocol, with time limits for one connection
transport.py    closes a connection so that the client can read the last response
head.py         checks of a request head that llhttp does not make
chunks.py       finds the end of a chunked body, with checks that llhttp does not make
"""
