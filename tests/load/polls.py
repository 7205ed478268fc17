"""Polls at a fixed rate, whatever the server makes of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

HEADER_END = b"\r\n\r\n"
CONNECTIONS = 50
LATE_S = 10.0
"""A poll that is not answered for so long counts as lost."""


@dataclass
class Polls:
    """How polls were answered.

    A poll's time begins when it is due, not when a connection is free for it: else a server that stands still for a
    second would be asked less in that second, and look the better for it.
    """

    asked: int = 0
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int | str] = field(default_factory=Counter)
    lasted_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


class Poller:
    """Asks for paths in turn over connections that stay open.

    Parameters
    ----------
    key
        Shown with every request.
    """

    def __init__(self, port: int, paths: Sequence[str], key: str) -> None:
        self._port = port
        self._requests = [
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
            for path in paths
        ]
        self.polls = Polls()

    async def run(self, rate: float, seconds: float) -> Polls:
        """Poll so often for so long."""
        due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
        connections = [asyncio.create_task(self._serve(due)) for _ in range(CONNECTIONS)]
        begun = time.perf_counter()
        for number in range(int(rate * seconds)):
            moment = begun + number / rate
            if (wait_s := moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            due.put_nowait((number, moment))
            self.polls.asked += 1
        for _ in connections:
            due.put_nowait(None)
        await asyncio.gather(*connections)
        self.polls.lasted_s = time.perf_counter() - begun
        return self.polls

    async def _serve(self, due: "asyncio.Queue[tuple[int, float] | None]") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (taken := await due.get()) is not None:
            number, moment = taken
            try:
                async with asyncio.timeout(LATE_S):
                    status = await self._ask(reader, writer, self._requests[number % len(self._requests)])
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self.polls.statuses[type(error).__name__] += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                continue
            self.polls.seconds.append(time.perf_counter() - moment)
            self.polls.statuses[status] += 1
        writer.close()

    @staticmethod
    async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
        writer.write(request)
        head = await reader.readuntil(HEADER_END)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split(b" ", 2)[1])
