"""How long the server has kept us waiting."""

import pytest

from rig.io.patience import Patience


@pytest.mark.parametrize(
    ("deaf", "busy", "counted"), [(False, False, 10.0), (False, True, 10.0 / 6), (True, False, 0.0), (True, True, 0.0)]
)
def test_only_time_in_which_an_answer_could_come_counts(deaf: bool, busy: bool, counted: float) -> None:
    """None while we do not read, little while the answer stands behind a flood of events."""
    patience = Patience()
    patience.pass_time(100.0, deaf=deaf, busy=busy)
    assert patience.now == 0.0

    for second in range(1, 11):
        patience.pass_time(100.0 + second, deaf=deaf, busy=busy)

    assert patience.now == pytest.approx(counted)
