# SPDX-License-Identifier: Apache-2.0
"""Bytes to a policy server and back: by a socket of this machine (a path), by TCP, or otherwise.

By a socket a message is its length (8 bytes, little endian) and its bytes. There is no encryption
and no password: a path is guarded by the permissions of its folder, TCP listens on 127.0.0.1 unless
told otherwise. Other ways are registered by those who know them (``register_link``): ROS 2 services
by ``vla_ros.nodes``.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.remote.service_address import SERVICE, parse_service

LARGEST_BYTES = 256 << 20
_LENGTH = struct.Struct("<Q")
_BLOCK = 1 << 20
_CONNECT_S = 1.0
_SEND_S = 5.0


class Link(Protocol):
    """One end of a way to and fro. Thread-safety: one thread."""

    @property
    def is_open(self) -> bool:
        """Whether the other side is there, as far as can be seen without asking it."""

    def send(self, data: bytes) -> None:
        """Hand bytes over; raises ``PolicyError`` if nobody is there."""

    def receive(self, wait_s: float) -> bytearray | None:
        """Return what came, None if nothing did in time; raises ``PolicyError`` if nobody is."""

    def close(self) -> None:
        """Give the way up; what is still under way never arrives. ``send`` opens a new one."""


Address = tuple[socket.AddressFamily, "str | tuple[str, int]"]
_openers: dict[str, Callable[[str], Link]] = {}


def register_link(kind: str, opener: Callable[[str], Link]) -> None:
    """Have addresses ``<kind>:...`` opened by ``opener``."""
    _openers[kind] = opener


def open_link(address: str) -> Link:
    """Return the way to a server; the first ``send`` goes there.

    Raises:
        ConfigError: if it is no address, or of a kind that nobody here knows the way to.
    """
    address = resolve_address(address)
    if not is_service(address):
        return SocketLink(None, address)
    if SERVICE not in _openers:
        raise ConfigError(
            f"{address}: services need ROS 2 and vla_ros.nodes.links.register_links(), which nodes "
            "and the command line call"
        )
    return _openers[SERVICE](address)


def is_service(address: str) -> bool:
    """Say whether an address is one of a ROS 2 service."""
    return address.startswith(f"{SERVICE}:")


def resolve_address(text: str) -> str:
    """Return an address that other processes understand as this one does; a domain is named.

    Raises:
        ConfigError: if it is no address.
    """
    if is_service(text):
        return str(parse_service(text))
    parse_address(text)
    return text


def parse_address(text: str) -> Address:
    """Return the address of ``unix:<path>`` or ``tcp:<host>:<port>``.

    Raises:
        ConfigError: if it is neither.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and int(port) < 1 << 16:
        return socket.AF_INET, (host, int(port))
    raise ConfigError(
        f"address must be unix:<path>, tcp:<host>:<port> or ros:/<service>, got {text!r}"
    )


class SocketLink:
    """A stream of messages over a socket.

    Args:
        connection: what to use; None: the first ``send`` connects to ``address``.
        address: whom to connect to.
    """

    def __init__(self, connection: socket.socket | None, address: str = "") -> None:
        self._address = address
        if connection is None:
            parse_address(address)
        self._socket = None if connection is None else _set_up(connection)
        self._received = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the other side has not closed."""
        if self._socket is None:
            return False
        try:
            if not select.select([self._socket], [], [], 0.0)[0]:
                return True
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def send(self, data: bytes) -> None:
        """Send a message; connects first if need be."""
        if self._socket is None:
            self._socket, self._received = self._connect(), bytearray()
        try:
            self._socket.settimeout(_SEND_S)
            # One after the other: joined, a message of images would be copied once more.
            self._socket.sendall(_LENGTH.pack(len(data)))
            self._socket.sendall(data)
        except OSError as error:
            self.close()
            raise PolicyError(f"the other side is gone: {error}") from error

    def receive(self, wait_s: float) -> bytearray | None:
        """Return a message; parts of one that came are kept for the next call."""
        deadline_s = time.monotonic() + wait_s
        while True:
            message = self._whole_message()
            if message is not None:
                return message
            if self._socket is None:
                raise PolicyError("there is no connection")
            left_s = max(0.0, deadline_s - time.monotonic())
            try:
                if not select.select([self._socket], [], [], left_s)[0]:
                    return None
                block = self._socket.recv(_BLOCK)
            except OSError as error:
                self.close()
                raise PolicyError(f"the other side is gone: {error}") from error
            if not block:
                self.close()
                raise PolicyError("the other side has closed the connection")
            self._received += block

    def close(self) -> None:
        """Close the connection; parts of messages are dropped."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._received = None, bytearray()

    def _whole_message(self) -> bytearray | None:
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        try:
            check_length(length)
        except PolicyError:
            self.close()
            raise
        end = _LENGTH.size + length
        if len(self._received) < end:
            return None
        message = self._received[_LENGTH.size : end]
        self._received = self._received[end:]
        return message

    def _connect(self) -> socket.socket:
        family, where = parse_address(self._address)
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(where)
        except OSError as error:
            connection.close()
            raise PolicyError(f"no policy server at {self._address}: {error}") from error
        return _set_up(connection)


def check_length(n_bytes: int) -> None:
    """Raise ``PolicyError`` if a message is longer than any may be."""
    if n_bytes > LARGEST_BYTES:
        raise PolicyError(f"a message of {n_bytes} bytes, at most {LARGEST_BYTES} allowed")


def listen(address: str) -> socket.socket:
    """Return a socket that listens; what a server that died left at a path is replaced.

    Raises:
        ConfigError: if it cannot, as when another server lives there.
    """
    family, where = parse_address(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if isinstance(where, str):
            _remove_left_over(Path(where), address)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen at {address}: {error}") from error
    return listener


def _remove_left_over(path: Path, address: str) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise ConfigError(f"another server listens at {address}")


def _set_up(connection: socket.socket) -> socket.socket:
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
