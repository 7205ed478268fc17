"""Which addresses may be called back: public ones by https, and those that the operator names.

A caller chooses the address, so it must not make the service speak to what only the service's machine can reach. Names
are resolved here, every address that a name has is checked, and a courier connects to the address that was checked:
asking again could bring another answer.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from service.errors import CallbackRefused
from service.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway turns into the IPv4 address in their last four bytes (RFC 6052)."""

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Receiver:
    """A parsed address."""

    scheme: str
    host: str
    port: int
    target: str


@dataclass(frozen=True)
class Receivers:
    """Who may be called.

    Parameters
    ----------
    hosts
        Names, and addresses written as in the URL, that may be called whatever they resolve to, by http as well.
    networks
        Networks whose addresses may be called although they are not public.
    """

    hosts: frozenset[str]
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those that the settings allow."""
        networks = tuple(ip_network(entry) for entry in settings.webhook_allowed if "/" in entry)
        return cls(frozenset(e.lower().strip("[]") for e in settings.webhook_allowed if "/" not in e), networks)

    def parse(self, url: str) -> Receiver:
        """Return the parts of a URL that may be called as far as can be said without resolving its name.

        Raises
        ------
        CallbackRefused
            If it may not.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            raise CallbackRefused("the callback's address is no URL") from None
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or not host:
            raise CallbackRefused("the callback's address is no URL; names and paths must be encoded")
        if parts.scheme not in PORTS or parts.username is not None or parts.password is not None or parts.fragment:
            raise CallbackRefused("a callback needs an address https://host/path without user, password and fragment")
        literal = _literal(host)
        if literal is not None:
            self.check(host, literal)
        if parts.scheme == "http" and not self._names(host, literal):
            raise CallbackRefused("a callback needs https, except to hosts that the operator allows")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Receiver(parts.scheme, host, port, target)

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, all of them checked.

        Raises
        ------
        CallbackRefused
            If one of them may not be called.
        OSError
            If the name cannot be resolved.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        for address in addresses:
            self.check(host, ip_address(address))
        return addresses

    def check(self, host: str, address: Address) -> None:
        """Pass if an address of a host may be called.

        Raises
        ------
        CallbackRefused
            If not.
        """
        if host.lower() in self.hosts or any(address in network for network in self.networks):
            return
        if not _is_public(address):
            raise CallbackRefused("the callback's address is not public, and the operator has not allowed it")

    def _names(self, host: str, literal: Address | None) -> bool:
        listed = literal is not None and any(literal in network for network in self.networks)
        return listed or host.lower() in self.hosts


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        # Addresses that stand for one of IPv4 are as public as that one
        if address in NAT64:
            return _is_public(IPv4Address(address.packed[-4:]))
        meant = address.ipv4_mapped or address.sixtofour
        if meant is not None:
            return _is_public(meant)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
