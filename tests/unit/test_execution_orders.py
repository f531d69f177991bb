"""Client order ids."""

from uuid import UUID

import pytest

from trading_pipelines.domain.execution.orders import Leg, client_order_id

SIGNAL = UUID("0123456789abcdef0123456789abcdef")


def test_client_order_id_is_made_of_signal_leg_and_revision() -> None:
    assert client_order_id(SIGNAL, Leg.TP2, 3) == "0123456789abcdef01234567-T2-3"


def test_every_leg_has_an_id_of_its_own_within_36_characters() -> None:
    names = {client_order_id(SIGNAL, leg, 9999) for leg in Leg}
    assert len(names) == len(Leg)
    assert max(map(len, names)) <= 36


@pytest.mark.parametrize("revision", [-1, 10**9])
def test_revision_that_does_not_fit_is_refused(revision: int) -> None:
    with pytest.raises(ValueError, match="revision"):
        client_order_id(SIGNAL, Leg.TP1, revision)
