"""Ports for the servers that the tests and the demo start."""

from __future__ import annotations

import socket
import sys

import pytest

from scripts.processes import free_ports


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reserve a port for a server")
def test_a_free_port_is_reserved_for_the_server_that_requested_it() -> None:
    ports = free_ports(3)
    assert len({*ports, *free_ports(3)}) == 6
    for port in ports:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        # It can be started again, too.
        for host in ("127.0.0.1", "", "127.0.0.1"):
            with socket.create_server((host, port)) as server:
                assert server.getsockname()[1] == port
