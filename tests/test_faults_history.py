"""The record and its rules: each broken promise is named, a correct store is never accused."""

from __future__ import annotations

import pytest

from memory.testing.faults.history import Ack, History, Intent, State

A, B, C, D = (1, 1), (1, 2), (2, 1), (2, 2)


def made(*lines: Intent | Ack, base: dict[str, State] | None = None) -> History:
    history = History(base)
    for line in lines:
        history.add(line)
    return history


def wrote(
    by: tuple[int, int], start: int, end: int, version: int, kind: str = "put", expect: int = 0
) -> list[Intent | Ack]:
    return [Intent(*by, start, kind, ["x"], expect), Ack(*by, end, [version])]


def live(by: tuple[int, int], version: int, **more: object) -> dict[str, State]:
    return {"x": State(version, by, more.pop("born", by), **more)}


def kinds(history: History, found: dict[str, State], **options: bool) -> list[str]:
    return [violation.what for violation in history.check(found, **options)]


def test_an_acknowledged_write_that_is_there_is_right():
    assert kinds(made(*wrote(A, 1, 2, 5)), live(A, 5)) == []


def test_an_acknowledged_write_that_is_missing_is_lost():
    history = made(*wrote(A, 1, 2, 5))
    assert kinds(history, {}) == ["lost"]
    assert kinds(history, {}, lossy=True) == []
    assert "version 5 was acknowledged" in str(history.check({})[0])


def test_an_older_write_in_place_of_an_acknowledged_one_is_a_loss():
    history = made(*wrote(A, 1, 2, 5), *wrote(B, 3, 4, 6))
    assert kinds(history, live(A, 5)) == ["lost"]
    assert kinds(history, live(A, 5), lossy=True) == []
    assert kinds(history, live(B, 6)) == []


def test_a_write_that_was_cut_short_may_be_there_or_not():
    history = made(*wrote(A, 1, 2, 5), Intent(*B, 3, "put", ["x"]))
    assert kinds(history, live(A, 5)) == []
    assert kinds(history, live(B, 7)) == []
    assert history.outstanding(1) == 1
    assert history.outstanding(2) == 0


def test_a_write_nobody_meant_is_a_phantom():
    assert kinds(made(), live(A, 5)) == ["phantom"]
    refused = made(Intent(*A, 1, "add", ["x"]), Ack(*A, 2, [0]))
    assert kinds(refused, live(A, 5)) == ["phantom"]


def test_another_version_than_the_acknowledged_one_is_wrong():
    assert kinds(made(*wrote(A, 1, 2, 5)), live(A, 6)) == ["wrong"]
    assert kinds(made(Intent(*B, 1, "put", ["x"]), *wrote(A, 1, 2, 5)), live(B, 5)) == ["wrong"]


def test_a_version_given_out_twice_or_backwards_is_wrong():
    assert kinds(made(*wrote(A, 1, 2, 5), *wrote(C, 1, 2, 5)), live(A, 5)) == ["wrong"]
    assert "wrong" in kinds(made(*wrote(A, 1, 2, 6), *wrote(B, 3, 4, 5)), live(A, 6))
    assert "wrong" in kinds(made(*wrote(A, 1, 2, 5), base=live(D, 9)), live(A, 5))


def test_a_delete_explains_absence_only_if_it_may_have_come_last():
    deleted = [Intent(*B, 3, "delete", ["x"]), Ack(*B, 4, [1])]
    assert kinds(made(*wrote(A, 1, 2, 5), *deleted), {}) == []
    assert kinds(made(*wrote(A, 1, 2, 5), *deleted, *wrote(C, 5, 6, 7)), {}) == ["lost"]
    assert kinds(made(*wrote(A, 1, 2, 5), *deleted, *wrote(C, 3, 6, 7)), {}) == []
    assert kinds(made(*wrote(A, 1, 2, 5), Intent(*B, 3, "delete", ["x"])), {}) == []


def test_a_conditional_delete_explains_only_its_own_version():
    def delete(expect: int) -> list[Intent | Ack]:
        return [Intent(*B, 3, "delete_cas", ["x"], expect), Ack(*B, 4, [1])]

    assert kinds(made(*wrote(A, 1, 2, 5), *delete(5)), {}) == []
    assert kinds(made(*wrote(A, 1, 2, 5), *delete(5)), live(A, 5)) == ["lost"]
    assert kinds(made(*wrote(A, 1, 2, 5), *delete(4)), {}) == ["lost"]
    assert kinds(made(*wrote(A, 1, 2, 5), Intent(*C, 1, "put", ["x"]), *delete(6)), {}) == []


def test_an_item_that_outlives_an_acknowledged_delete_is_a_loss():
    deleted = [Intent(*B, 3, "delete", ["x"]), Ack(*B, 4, [1])]
    assert kinds(made(*wrote(A, 1, 2, 5), *deleted), live(A, 5)) == ["lost"]
    assert kinds(made(*deleted, base=live(D, 4)), live(D, 4)) == ["lost"]


def test_what_was_found_before_has_to_be_there_still():
    assert kinds(made(base=live(D, 4)), live(D, 4)) == []
    assert kinds(made(base=live(D, 4)), {}) == ["lost"]
    assert kinds(made(base=live(D, 4)), live(D, 3)) == ["wrong"]
    assert kinds(made(*wrote(A, 1, 2, 5), base=live(D, 4)), live(D, 4)) == ["lost"]


def test_a_version_that_somebody_read_may_not_be_taken_back():
    history = made(Intent(*A, 1, "put", ["x"]), Intent(*B, 2, "cas", ["x"], 7), Ack(*B, 3, [0]), base=live(D, 4))
    assert kinds(history, live(D, 4)) == ["lost"]
    assert kinds(history, live(A, 7)) == []


@pytest.mark.parametrize("second", [wrote(C, 1, 9, 7, "cas", 4), wrote(C, 1, 9, 9, "cas", 4)])
def test_two_compare_and_sets_on_one_version_are_a_lost_update(second):
    history = made(*wrote(A, 1, 2, 5, "cas", 4), *second, base=live(D, 4))
    assert set(kinds(history, live(C, second[1].results[0]))) == {"lost"}


def test_an_update_that_vanished_from_under_a_later_one_is_lost():
    history = made(*wrote(A, 1, 2, 5), *wrote(B, 3, 4, 6, "update"), *wrote(C, 5, 6, 7, "update"))
    assert kinds(history, live(C, 7, born=A, trail=frozenset({B, C}))) == []
    assert kinds(history, live(C, 7, born=A, trail=frozenset({C}))) == ["lost"]
    inherited = made(*wrote(B, 3, 4, 6, "update"), *wrote(C, 5, 6, 7, "update"), base=live(D, 4))
    assert kinds(inherited, live(C, 7, born=D, trail=frozenset({C}))) == ["lost"]


def test_an_update_or_a_foundation_nobody_meant_is_a_phantom():
    history = made(*wrote(A, 1, 2, 5), *wrote(B, 3, 4, 6, "update"))
    assert kinds(history, live(B, 6, born=A, trail=frozenset({B, D}))) == ["phantom"]
    assert kinds(history, live(B, 6, born=D, trail=frozenset({B}))) == ["phantom"]


def test_an_atomic_batch_that_is_there_in_part_is_wrong():
    history = made(Intent(*A, 1, "atomic", ["x", "y"]))
    assert kinds(history, {"x": State(5, A, A), "y": State(6, A, A)}) == []
    assert kinds(history, {}) == []
    assert kinds(history, {"x": State(5, A, A)}) == ["wrong"]


def test_an_unexpected_error_is_a_violation_of_its_own():
    history = made(Intent(*A, 1, "put", ["x"]), Ack(*A, 2, [-1], "OSError('odd')"))
    assert kinds(history, {}) == ["unexpected"]
    assert history.acknowledged() == 0


def test_a_history_can_be_seen_as_it_was_at_an_earlier_moment():
    history = made(*wrote(A, 1, 2, 5), *wrote(B, 3, 4, 6))
    assert kinds(history.until(4), live(A, 5)) == []
    assert kinds(history.until(5), live(A, 5)) == ["lost"]
    assert kinds(history.until(3), live(B, 6)) == ["phantom"]
