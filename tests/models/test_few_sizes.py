"""Round numbers of rows: few of them, little more than was asked for, and only where that pays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hotlap.models.chosen import positions_from, with_few_sizes
from hotlap.models.documents import DocumentRows
from hotlap.models.few_sizes import UNIT, filled, rounded

BF16 = torch.autocast("cpu", torch.bfloat16)


@given(st.integers(0, 10**7), st.sampled_from([1, UNIT]))
def test_a_rounded_number_is_a_little_larger(count: int, unit: int) -> None:
    found = rounded(count, unit)
    assert found % unit == 0
    assert count <= found <= max(count + unit - 1, count * 17 / 16)
    assert rounded(found, unit) == found


def test_thousands_of_numbers_become_few() -> None:
    assert len({rounded(count) for count in range(1000, 5000)}) <= 40


def test_rows_are_filled_with_zeros_where_bf16_is_computed_on_a_cpu_and_nowhere_else() -> None:
    x = torch.ones(13, 2, 3)
    assert filled(x) is x
    with BF16:
        found = filled(x)
        assert found.shape == (16, 2, 3)
        assert torch.equal(found[:13], x) and not found[13:].any()
        assert filled(x[:8]).shape == (8, 2, 3)
        assert filled(torch.arange(1, 4)).tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
        assert filled(torch.ones(3, device="meta")).shape == (3,)


@given(st.sets(st.integers(0, 5 * 23 - 1), min_size=1), st.randoms(use_true_random=False))
def test_more_positions_are_named_once_and_in_columns_that_were_wanted(places: set[int], chance: object) -> None:
    order = sorted(places)
    chance.shuffle(order)  # type: ignore[attr-defined]
    positions, shape = torch.tensor(order), torch.Size((5, 23))
    assert with_few_sizes(positions, shape) is positions
    with BF16:
        found = with_few_sizes(positions, shape)
        first, _ = positions_from(positions, 23)
        assert positions_from(found, 23)[0] == first
    assert found[: len(positions)].tolist() == order
    assert len(set(found.tolist())) == len(found)
    assert len(found) < 5 * 23 or len(found) == len(positions)  # all of them, in another order, would be taken for all
    if len(found) > len(positions):
        assert len(found) <= rounded(len(positions))
    assert int((positions % 23).min()) - first in range(UNIT)


def test_documents_that_were_given_room_come_back_as_they_were() -> None:
    ids = torch.tensor([[0] * 5 + [1] * 6, [2] * 8 + [-1] * 3, [3] * 3 + [4] * 3 + [5] * 5])
    x = torch.arange(33.0).view(3, 11, 1) + 1
    plain = DocumentRows(ids)
    with BF16:
        rows = DocumentRows(ids)
    assert (plain.length, rows.length) == (8, 8)
    with BF16:
        longer = DocumentRows(torch.cat([ids, ids + 10], dim=1))
    assert longer.length % UNIT == 0
    assert torch.equal(rows.join(rows.split(x)), plain.join(plain.split(x)))
    both = torch.cat([x, -x], dim=1)
    kept = torch.cat([x * (ids >= 0).unsqueeze(-1), -x], dim=1)
    assert torch.equal(longer.join(longer.split(both)), kept * (torch.cat([ids, ids + 10], dim=1) >= 0).unsqueeze(-1))


@pytest.mark.parametrize("count", [17, 33, 100])
def test_many_documents_get_blank_ones_behind_them(count: int) -> None:
    ids = torch.arange(count).repeat_interleave(3).unsqueeze(0)
    with BF16:
        rows = DocumentRows(ids)
    x = torch.randn(1, 3 * count, 2)
    split = rows.split(x)
    assert split.shape == (rounded(count, 1), 8, 2)
    assert not split[count:].any()
    assert torch.equal(rows.join(split), x)
