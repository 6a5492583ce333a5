"""A program for pods that listens on ports and tries to reach addresses.

Tests run it by `python -c`, so it needs the standard library only. As `listen PORT... [--address ADDRESS...]` it
answers on TCP and UDP until it is ended. With --address it first gives these addresses to the loopback device, so
that a pod in the node's network stands for places outside of the cluster. As `reach` it reads lines `tcp|udp ADDRESS
PORT` and writes each line that was answered.
"""

import asyncio
import contextlib
import fcntl
import signal
import socket
import struct
import sys
import typing

SECONDS = 3.0
"""How long an attempt waits for an answer. A network plug-in drops what it refuses, so a refusal takes all of it."""
SET_ADDRESS, GET_FLAGS, SET_FLAGS = 0x8916, 0x8913, 0x8914
"""SIOCSIFADDR, SIOCGIFFLAGS and SIOCSIFFLAGS of Linux, netdevice(7)."""
UP = 1
QUESTION = bytes.fromhex(
    "abcd010000010000000000000a6b756265726e657465730764656661756c740373766307636c7573746572056c6f63616c0000010001"
)
"""A DNS query for kubernetes.default.svc.cluster.local; a listener here answers any bytes."""


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = typing.cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self.transport.sendto(data, sender)


class Answered(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        if not self.answer.done():
            self.answer.set_result(None)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def add_address(number: int, address: str) -> None:
    request = struct.pack("16sH2s4s8s", f"lo:{number}".encode(), socket.AF_INET, b"", socket.inet_aton(address), b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SET_ADDRESS, request)


def remove_address(number: int) -> None:
    name = f"lo:{number}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control, contextlib.suppress(OSError):
        flags = struct.unpack("16sh", fcntl.ioctl(control, GET_FLAGS, struct.pack("16sh", name, 0)))[1]
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh", name, flags & ~UP))


async def listen(ports: list[int], addresses: list[str]) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    for number, address in enumerate(addresses):
        add_address(number, address)
    try:
        for address in addresses or ["0.0.0.0"]:  # noqa: S104 the pod's own address
            for port in ports:
                await asyncio.start_server(answer, address, port)
                await loop.create_datagram_endpoint(Echo, (address, port))
        print("listening", flush=True)
        await ended.wait()
    finally:
        for number in range(len(addresses)):
            remove_address(number)


async def is_answered(protocol: str, address: str, port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(SECONDS):
            if protocol == "tcp":
                (await asyncio.open_connection(address, port))[1].close()
                return True
            loop = asyncio.get_running_loop()
            transport, answered = await loop.create_datagram_endpoint(Answered, remote_addr=(address, port))
            with contextlib.closing(transport):
                transport.sendto(QUESTION)
                await answered.answer
                return True
    return False


async def reach(lines: list[str]) -> None:
    async def attempt(line: str) -> None:
        protocol, address, port = line.split()
        if await is_answered(protocol, address, int(port)):
            print(line)

    await asyncio.gather(*(attempt(line) for line in lines))


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "listen":
        where = words.index("--address") if "--address" in words else len(words)
        asyncio.run(listen([int(word) for word in words[:where]], words[where + 1 :]))
    else:
        asyncio.run(reach(sys.stdin.read().splitlines()))
