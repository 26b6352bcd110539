"""Whose rows in spill.db are whose."""

from hypothesis import given
from hypothesis import strategies as st

from rig.io.owner import Owner

owners = st.builds(Owner, st.integers(0, 2**32 - 1), st.integers(0, 63), st.just(64))
workers = st.integers(0, 1023)


@given(owner=owners, other=owners, worker=workers)
def test_address_belongs_to_one_io_process_of_one_run(owner: Owner, other: Owner, worker: int) -> None:
    """It names the worker, fits a column of SQLite, and nobody else takes it for his own."""
    address = owner.address(worker)

    assert owner.owns(address)
    assert Owner.worker(address) == worker
    assert 0 <= address < 2**63
    assert other.owns(address) == (other == owner)


@given(run=st.integers(1, 2**32 - 1), io=st.integers(0, 63), worker=workers, io_processes=st.integers(1, 64))
def test_each_row_of_an_earlier_run_has_one_heir(run: int, io: int, worker: int, io_processes: int) -> None:
    """However many io processes there are now, exactly one takes it; with as many as before, the one of the same number."""
    address = Owner(run, io, 64).address(worker)
    heirs = [number for number in range(io_processes) if Owner(run - 1, number, io_processes).inherits(address)]

    assert heirs == [io % io_processes]
    assert not Owner(run, io % io_processes, io_processes).inherits(address), "of its own run nobody inherits"
