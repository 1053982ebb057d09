"""A replica has a name, one that lasts: whatever a power cut has left of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.app.heartbeat import replica_id


def test_the_name_is_made_up_once(tmp_path: Path) -> None:
    name = replica_id(tmp_path / "replica_id")
    assert name
    assert replica_id(tmp_path / "replica_id", "another") == name


@pytest.mark.parametrize("name", ["a1b2c3d4", "eu-west.7", "x"])
def test_a_name_that_somebody_gave_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "replica_id").write_text(f"{name}\n")
    assert replica_id(tmp_path / "replica_id") == name


@given(content=st.one_of(st.binary(max_size=80), st.sampled_from([b"", b"\n", b"\0" * 9, b"\xff", b"a b", b"a\nb"])))
def test_whatever_the_file_holds_there_is_a_name_and_it_lasts(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("replica") / "replica_id"
    path.write_bytes(content)
    name = replica_id(path)
    assert name
    assert name.isprintable()
    assert not set(name) & set(" \t\n\0")
    assert replica_id(path) == name
