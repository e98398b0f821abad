"""Sockets that one process listens on go to another one of the same user."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ray_mesh.agent.handover import Offer, fetch
from ray_mesh.errors import PeerError, Unavailable
from ray_mesh.proxy.listener import bind


@contextmanager
def serving(offer: Offer) -> Iterator[list[BaseException]]:
    """Run an offer on a thread; gives what it raised, once it ended."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            offer.serve()
        except (PeerError, Unavailable) as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(20.0)
        assert not thread.is_alive()


def test_a_connection_that_waits_in_the_queue_is_accepted_by_the_successor() -> None:
    with bind("127.0.0.1", 0) as old, bind("127.0.0.1", old.getsockname()[1]):
        old.listen()
        with socket.create_connection(old.getsockname()) as waiting:
            offer = Offer([old])
            with serving(offer) as raised:
                (new,) = fetch(offer.name)
            assert raised == []
            old.close()
            with new:
                new.settimeout(5.0)
                accepted, _ = new.accept()
                with accepted:
                    accepted.sendall(b"here")
                    assert waiting.recv(4) == b"here"


def test_more_sockets_than_a_message_takes_arrive_in_order() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(bind("127.0.0.1", 0)) for _ in range(450)]
        offer = Offer(sockets)
        with serving(offer):
            fetched = [stack.enter_context(one) for one in fetch(offer.name)]
        assert [one.getsockname() for one in fetched] == [one.getsockname() for one in sockets]


def test_no_sockets_at_all_are_handed_over_as_well() -> None:
    offer = Offer([])
    with serving(offer):
        assert fetch(offer.name) == []


def test_an_offer_is_taken_once_and_ends() -> None:
    with bind("127.0.0.1", 0) as one:
        offer = Offer([one])
        with serving(offer):
            (taken,) = fetch(offer.name)
            taken.close()
        with pytest.raises(Unavailable, match="cannot take the sockets over"):
            fetch(offer.name)


def test_an_offer_that_nobody_takes_ends() -> None:
    with serving(Offer([], timeout_s=0.05)) as raised:
        pass
    assert isinstance(raised[0], Unavailable)


@contextmanager
def another_user() -> Iterator[None]:
    """Be nobody for a moment."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_gets_nothing() -> None:
    with bind("127.0.0.1", 0) as one:
        offer = Offer([one])
        with serving(offer) as raised, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            with another_user():
                stranger.connect(f"\0{offer.name}")
            stranger.settimeout(5.0)
            assert socket.recv_fds(stranger, 4, 9)[:2] == (b"", [])
        assert isinstance(raised[0], PeerError)
