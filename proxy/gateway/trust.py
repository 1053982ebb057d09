"""Whom we believe when they name a user, and which cluster stands for those whom we do not.

A name in a request costs its sender nothing: one machine can invent a thousand users. So a name is *vouched for* by a
backend, known by its network or its token, or it is *claimed*. A claimed name still keeps its user on one model, but
what such requests say of a model is counted by their cluster: the credential that they carry, else the network of the
address that they come from (/24 of IPv4, /64 of IPv6), as a keyed hash. Credentials and addresses are never stored.

Behind a trusted peer the address is the right-most one of `Forwarded` or `X-Forwarded-For` that is not itself trusted:
whoever is further left could have been made up by it. Where the two headers tell different stories, or an address
cannot be read, the cluster is UNKNOWN, one for all.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hmac import compare_digest
from typing import Final

from proxy.config.serving import StickyConfig
from proxy.gateway.head import RequestHead

__all__ = ["READ", "TOKEN_HEADER", "UNKNOWN", "Network", "UserTrust"]

TOKEN_HEADER: Final = b"x-ratchet-token"
UNKNOWN: Final = 0
"""The cluster of all whose address cannot be told."""
_CREDENTIALS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_FORWARDED: Final = b"forwarded"
_FORWARDED_FOR: Final = b"x-forwarded-for"
READ: Final = tuple(name.decode() for name in (*_CREDENTIALS, _FORWARDED, _FORWARDED_FOR))
"""Headers that are read here; they travel on."""
_FOR: Final = re.compile(rb'(?:^|;)[ \t]*for[ \t]*=[ \t]*("[^"]*"|[^;]*)', re.IGNORECASE)
_INITIALS: Final = frozenset((b"f", b"F", b"x", b"X"))
_LONGEST_REMEMBERED: Final = 256
_MOST_HOPS: Final = 32
"""Addresses read of one header, from the right; a longer list is UNKNOWN."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


class Network:
    """Where a connection comes from. The same object for the same network, so that it is compared by identity."""

    __slots__ = ("cluster", "trusted")

    def __init__(self, cluster: int, *, trusted: bool) -> None:
        self.cluster = cluster
        """Keyed hash of its network; UNKNOWN where the address cannot be read."""
        self.trusted = trusted
        """Whether it is one of `trusted_networks`, or a socket of this machine."""


class UserTrust:
    """The settings `sticky.trust`, `trusted_networks`, `token` and `cluster_by`, ready to be asked."""

    def __init__(self, config: StickyConfig, keyed_hash: Callable[[bytes], int], *, credentials_pass: bool) -> None:
        """`keyed_hash` gives signed 64 bits. `credentials_pass`: the model's server sees the client's own credential;
        where it does not, nobody checks one, and anybody can make them up."""
        self._everybody: Final = config.trust == "all"
        self._by_network: Final = config.trust == "networks"
        self._token: Final = config.token.encode() if config.token else None
        self._trusted: Final[_Networks] = [ipaddress.ip_network(text) for text in config.trusted_networks]
        self._hash: Final = keyed_hash
        self._credentials: Final = credentials_pass and config.cluster_by == "credential"
        self._local: Final = Network(keyed_hash(b"\0cluster\0local"), trusted=True)
        self.network: Final = lru_cache(4096)(self._network)
        """Peers come again and again."""
        self._remembered: Final = lru_cache(4096)(self._told)
        """So do those behind them."""

    def facts(self, head: RequestHead, network: Network) -> bytes:
        """What the record says of it: members of a JSON object, each behind a comma, `cl` the cluster and `cm` whether
        the name is only claimed."""
        cluster, claimed = self.origin(head, network)
        return b',"cl":%d,"cm":1' % cluster if claimed else b',"cl":%d' % cluster

    def origin(self, head: RequestHead, network: Network) -> tuple[int, bool]:
        """The cluster of a request, and whether the name in it is only claimed."""
        cluster, believed = network.cluster, network.trusted
        if believed and not head.fields.keys().isdisjoint((_FORWARDED, _FORWARDED_FOR)):
            behind = self._behind(head.lines)
            if behind is not None:
                cluster, believed = self._cluster_of(behind), False
        if self._credentials and (credential := _credential(head.fields)):
            cluster = self._hash(b"\0cluster\0credential\0" + credential)
        return cluster, not (self._everybody or self._vouched(head) or (believed and self._by_network))

    def address(self, head: RequestHead, network: Network, peer: bytes) -> bytes:
        """Who asks: the peer, or the one that a trusted peer hands on, where that can be told."""
        if network.trusted and not head.fields.keys().isdisjoint((_FORWARDED, _FORWARDED_FOR)):
            behind = self._behind(head.lines)
            if behind is not None and not isinstance(behind, int):
                return str(behind).encode()
        return peer

    def _vouched(self, head: RequestHead) -> bool:
        given = head.fields.get(TOKEN_HEADER)
        return given is not None and self._token is not None and compare_digest(given, self._token)

    def _network(self, host: bytes) -> Network:
        """Of the peer's address, b"unix" for a socket of this machine."""
        if host == b"unix":
            return self._local
        address = _address(host)
        if address is None:
            return Network(UNKNOWN, trusted=False)
        return Network(self._cluster(address), trusted=self._is_trusted(address))

    def _behind(self, lines: Iterable[bytes]) -> _Address | int | None:
        """The right-most untrusted address that a trusted peer hands on, or UNKNOWN; None where all are trusted.

        Every line of a header is read: a balancer may add its own behind the one that the client has written."""
        listed, forwarded = list[bytes](), list[bytes]()
        for line in lines:
            if line[:1] in _INITIALS:
                name, _, value = line.partition(b":")
                if (name := name.lower()) == _FORWARDED_FOR:
                    listed.append(value)
                elif name == _FORWARDED:
                    forwarded.append(value)
        told = b",".join(listed) if listed else None, b",".join(forwarded) if forwarded else None
        short = len(told[0] or b"") + len(told[1] or b"") <= _LONGEST_REMEMBERED
        return self._remembered(*told) if short else self._told(*told)

    def _told(self, listed: bytes | None, forwarded: bytes | None) -> _Address | int | None:
        """The same of the values of both headers."""
        stories: list[_Address | int | None] = []
        if listed is not None:
            stories.append(self._right_most(_listed(listed)))
        if forwarded is not None:
            stories.append(self._right_most(_forwarded(forwarded)))
        if len({None if story is None else self._cluster_of(story) for story in stories}) > 1:
            return UNKNOWN
        return stories[0] if stories else None

    def _right_most(self, hops: Sequence[bytes]) -> _Address | int | None:
        for hop in reversed(hops[-_MOST_HOPS:]):
            address = _address(hop)
            if address is None:
                return UNKNOWN
            if not self._is_trusted(address):
                return address
        return UNKNOWN if len(hops) > _MOST_HOPS else None

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)

    def _cluster_of(self, behind: _Address | int) -> int:
        return behind if isinstance(behind, int) else self._cluster(behind)

    def _cluster(self, address: _Address) -> int:
        width = 3 if address.version == 4 else 8
        return self._hash(b"\0cluster\0network\0" + address.packed[:width])


def _credential(fields: Mapping[bytes, bytes]) -> bytes | None:
    """The one key that a request carries, however its scheme is spelled. None where it carries several, of which its
    server checks one and the others can be made up, or one that can be written in many ways: a signature, Basic."""
    keys = set()
    for name in _CREDENTIALS:
        if value := fields.get(name):
            *scheme, key = value.split()
            if len(scheme) > 1 or b"," in value or (scheme and scheme[0].lower() == b"basic"):
                return None
            keys.add(key)
    return keys.pop() if len(keys) == 1 else None


def _listed(value: bytes) -> list[bytes]:
    """The hops that are looked at, and one more where there are more."""
    return value.rsplit(b",", _MOST_HOPS)


def _forwarded(value: bytes) -> list[bytes]:
    """The `for` of each hop (RFC 7239), b"" where a hop says none."""
    hops = []
    for element in _listed(value):
        found = _FOR.search(element) if len(element) <= _LONGEST_REMEMBERED else None
        hops.append(found[1].strip(b' \t"') if found else b"")
    return hops


def _address(text: bytes) -> _Address | None:
    """An address as proxies write it, perhaps with a port or in brackets; None where it is none."""
    plain = text.strip().decode("latin-1")
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
