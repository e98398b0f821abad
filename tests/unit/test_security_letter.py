"""Letters to one process."""

from __future__ import annotations

import pickle

import pytest

from ray_mesh.errors import PeerError
from ray_mesh.security.letter import Letterbox, write


def test_only_the_process_with_the_letterbox_reads_a_letter() -> None:
    box, other = Letterbox(), Letterbox()
    letter = write(box.public, b"the seed")
    assert box.open(letter) == b"the seed"
    assert b"the seed" not in letter
    assert write(box.public, b"the seed") != letter
    with pytest.raises(PeerError, match="another process"):
        other.open(letter)


@pytest.mark.parametrize("position", [0, 31, 32, -1])
def test_a_changed_letter_is_refused(position: int) -> None:
    box = Letterbox()
    letter = bytearray(write(box.public, b"the seed"))
    letter[position] ^= 1
    with pytest.raises(PeerError, match="was changed"):
        box.open(bytes(letter))


@pytest.mark.parametrize("letter", [b"", b"short", bytes(32), bytes(48)])
def test_what_is_no_letter_is_refused(letter: bytes) -> None:
    with pytest.raises(PeerError):
        Letterbox().open(letter)


@pytest.mark.parametrize("public", [b"", b"short", bytes(32)])
def test_what_is_no_letterbox_is_refused(public: bytes) -> None:
    with pytest.raises(PeerError):
        write(public, b"the seed")


def test_a_letterbox_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Letterbox())
