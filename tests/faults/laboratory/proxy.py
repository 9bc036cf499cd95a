"""A TCP proxy between the server and PostgreSQL that counts the messages of the protocol, and cuts, freezes or tells at one of them.

It changes nothing. Of PostgreSQL's protocol it reads the headers of messages: a byte for the type, four for the length. A client's first
message has no type, and what answers a request for TLS is one byte.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

TO_DATABASE, TO_SERVER = "→", "←"
_TLS = 80877103
OF_NOBODY = "set_config('markonce.caller', '', true)"
"""How a transaction without a client begins (domain/store/database.py)."""


@dataclass(frozen=True)
class Message:
    """A message as it passed. `text` is the beginning of a query's text, otherwise empty; `connection` is the number of the connection."""

    direction: str
    type: str
    size: int
    text: str = ""
    connection: int = 0

    @property
    def is_commit(self) -> bool:
        return self.direction == TO_DATABASE and self.text.upper().startswith("COMMIT")

    def __str__(self) -> str:
        return f"{self.direction}{self.type}{f' {self.text[:24]!r}' if self.text else ''}"


def find_commits(messages: Sequence[Message]) -> list[int]:
    """Where among the messages a COMMIT is of a transaction of a client: those of none are the server's own, which comes to them by the clock."""
    own: set[int] = set()
    found = []
    for at, message in enumerate(messages):
        if message.text.startswith("BEGIN"):
            (own.add if OF_NOBODY in message.text else own.discard)(message.connection)
        elif message.is_commit and message.connection not in own:
            found.append(at)
    return found


class Parser:
    """Splits one direction of a connection into messages."""

    def __init__(self, direction: str, tls_asked: asyncio.Event) -> None:
        self._direction = direction
        self._buffer = b""
        self._is_typed = direction == TO_SERVER
        self._tls_asked = tls_asked

    def split(self, data: bytes) -> Iterator[tuple[Message, bytes]]:
        """The messages that are complete now, each with its bytes."""
        self._buffer += data
        while (found := self._next()) is not None:
            message, size = found
            whole, self._buffer = self._buffer[:size], self._buffer[size:]
            yield message, whole

    def _next(self) -> tuple[Message, int] | None:
        buffer = self._buffer
        if self._direction == TO_SERVER and self._tls_asked.is_set() and buffer:
            self._tls_asked.clear()
            return Message(self._direction, "tls", 1), 1
        header = 5 if self._is_typed else 4
        if len(buffer) < header:
            return None
        size = int.from_bytes(buffer[header - 4 : header], "big") + header - 4
        if len(buffer) < size:
            return None
        if self._is_typed:
            kind = chr(buffer[0])
            return Message(self._direction, kind, size, _text(kind, buffer[:size]) if self._direction == TO_DATABASE else ""), size
        if int.from_bytes(buffer[4:8], "big") == _TLS:
            self._tls_asked.set()
            return Message(self._direction, "tls?", size), size
        self._is_typed = True
        return Message(self._direction, "startup", size), size


def _text(kind: str, whole: bytes) -> str:
    """The text of a simple query, or of a statement that is prepared."""
    body = whole[5:] if kind == "Q" else whole[5:].partition(b"\0")[2] if kind == "P" else b""
    return " ".join(body[:80].partition(b"\0")[0].decode(errors="replace").split())


@dataclass
class Fault:
    """What happens at the message with this number, counted from `arm` over both directions: `part` of its bytes pass, then the connection
    is cut by RST or FIN, or everything stands still (freeze), or this direction of this connection does (hold), or `call` is called and
    everything goes on."""

    at: int
    action: str
    """rst, fin, freeze, hold or call"""
    part: float = 0.0
    call: Callable[[], object] = lambda: None


@dataclass
class Proxy:
    """Listens at `port` on the loopback and connects to PostgreSQL's. `trace` holds the messages since `arm`."""

    target: int
    port: int = 0
    trace: list[Message] = field(default_factory=list)
    fired: asyncio.Event = field(default_factory=asyncio.Event)
    _fault: Fault | None = None
    _moving: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: "dict[asyncio.Task[None], list[asyncio.StreamWriter]]" = field(default_factory=dict)

    async def start(self) -> None:
        """Listens from now on."""
        self._moving.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            self._server.close()
        self.thaw()
        self.cut_all()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def arm(self, fault: Fault | None = None) -> None:
        """Counts messages from here on, and waits for the fault's."""
        self.trace.clear()
        self.fired.clear()
        self._released.clear()
        self._fault = fault

    def disarm(self) -> list[Message]:
        """The messages since `arm`."""
        self._fault = None
        return list(self.trace)

    def freeze(self) -> None:
        """Nothing passes until `thaw`; connections are taken."""
        self._moving.clear()

    def thaw(self) -> None:
        """Everything passes again, also what is held."""
        self._moving.set()
        self._released.set()

    def cut_all(self) -> None:
        """Ends every connection by RST."""
        for writers in self._connections.values():
            _cut(writers, reset=True)

    @property
    def is_commit_sent(self) -> bool:
        """Whether the server has sent COMMIT for a client since `arm`, whatever became of it."""
        return bool(find_commits(self.trace))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        try:
            await self._moving.wait()
            there, out = await asyncio.open_connection("127.0.0.1", self.target)
            writers = self._connections[task] = [writer, out]
            tls = asyncio.Event()
            pumps = [
                asyncio.ensure_future(self._pump(reader, out, Parser(TO_DATABASE, tls), writers)),
                asyncio.ensure_future(self._pump(there, writer, Parser(TO_SERVER, tls), writers)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in self._connections.pop(task):
                one.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parser: Parser, both: list[asyncio.StreamWriter]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                for message, whole in parser.split(data):
                    await self._moving.wait()
                    number = len(self.trace)
                    self.trace.append(replace(message, connection=id(both)))
                    fault = self._fault
                    if fault is not None and fault.at == number:
                        self._fault = None
                        passing = int(len(whole) * fault.part)
                        writer.write(whole[:passing])
                        whole = whole[passing:]
                        self.fired.set()
                        if fault.action in ("rst", "fin"):
                            return _cut(both, reset=fault.action == "rst")
                        if fault.action == "freeze":
                            self.freeze()
                            await self._moving.wait()
                        elif fault.action == "hold":
                            await self._released.wait()
                        else:
                            fault.call()
                    writer.write(whole)
                await writer.drain()


def _cut(writers: list[asyncio.StreamWriter], *, reset: bool) -> None:
    """Ends both connections, so that each end sees a reset, or the end of the stream after what has been sent."""
    for writer in writers:
        held: socket.socket | None = writer.get_extra_info("socket")
        if reset and held is not None and held.fileno() >= 0:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
