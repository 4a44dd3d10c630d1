"""The rule of promotion and rollback on its own."""

import pytest

from components.errors import RegistryError
from components.registry.champions import Champions, promoted, rolled_back


def test_rollback_undoes_promotion():
    before = Champions("x", known=(1, 2, 3), current=1, before=())
    assert rolled_back(promoted(before, 3)) == before


def test_champion_that_was_deleted_is_skipped():
    assert rolled_back(Champions("x", known=(1, 3), current=3, before=(1, 2))).current == 1


def test_promotion_that_broke_off_after_its_first_step_does_not_hide_the_champion_before():
    # The history already holds 2, the alias still is on 2.
    assert rolled_back(Champions("x", known=(1, 2, 3), current=2, before=(1, 2))).current == 1


def test_first_promotion_has_no_champion_before():
    first = promoted(Champions("x", known=(1,), current=None, before=()), 1)
    assert (first.current, first.before) == (1, ())
    with pytest.raises(RegistryError, match="Promote the version you want"):
        rolled_back(first)


def test_rollback_without_a_champion_is_an_error():
    with pytest.raises(RegistryError, match="no champion to roll back from"):
        rolled_back(Champions("x", known=(1,), current=None, before=()))
