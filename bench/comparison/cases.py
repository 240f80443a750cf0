# SPDX-License-Identifier: Apache-2.0
"""What is measured, and what is to be reached: two tables."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    certificate: str = "ecdsa"
    tls: str = "1.3"
    groups: str = "X25519"
    is_resumed: bool = False
    command: str = "handshakes"
    needs: tuple = ()  # of a peer

    @property
    def unit(self):
        return "mails" if self.command == "messages" else "handshakes"


CASES = (
    Case("rsa", "full TLS 1.3, RSA-2048, X25519", certificate="rsa"),
    Case("ecdsa", "full TLS 1.3, ECDSA P-256, X25519"),
    Case("mlkem", "full TLS 1.3, ECDSA P-256, X25519MLKEM768", groups="X25519MLKEM768", needs=("X25519MLKEM768",)),
    Case("resumed", "resumed TLS 1.3 with key exchange, X25519", is_resumed=True, needs=("resumed",)),
    Case("tls12", "full TLS 1.2, ECDSA P-256, X25519", tls="1.2", needs=("1.2",)),
    Case("messages", "4 KB mails on kept TLS connections, durable, accept only", command="messages", needs=("messages",)),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """`figure` of the relay is at least `least` times that of `against`; or a value, at most `most`."""
    case: str
    against: str = ""
    least: float = 0
    most: float = 0
    unit: str = ""
    aim: float = 0


TARGETS = (
    Target("rsa", "ceiling", 1.8), Target("rsa", "nginx", 2.5), Target("rsa", "Postfix", 6),
    Target("ecdsa", "ceiling", 1.25), Target("ecdsa", "nginx", 2), Target("ecdsa", "Postfix", 6),
    Target("mlkem", "ceiling", 1.1), Target("resumed", "ceiling", 1.2),
    Target("messages", "Postfix", 10, aim=50),
    Target("memory of an idle TLS connection", most=30, unit="KiB"),
    Target("memory of a handshake in flight", most=110, unit="KiB"),
    Target("p99 of a handshake at 1 % of capacity, mb less inline", most=0.2, unit="ms"),
    Target("system calls per handshake on the worker", most=0.005, unit=""),  # its report, a snapshot a second, is none of a handshake's
)


def find_case(name):
    return next(c for c in CASES if c.name == name)
