"""The block manager under random work: nothing leaks, nothing is freed twice, what is found is what was named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.infer.blocks import BLOCK_SIZE, BlockManager, blocks_for

ACTIONS = st.lists(st.tuples(st.sampled_from(["take", "share", "name", "find", "release"]), st.integers(0, 30)))


@given(ACTIONS, st.integers(1, 12), st.integers(1, 4))
def test_every_block_is_used_or_free(actions, n_blocks, regions):
    blocks = BlockManager(n_blocks, regions)
    tables: list[list[int]] = []
    holds: dict[int, bytes] = {}  # what each block was last named; a block that is taken anew holds nothing
    for action, number in actions:
        table = tables[number % len(tables)] if tables else []
        if action == "take" and blocks.free:
            after = table[-1] if table else None
            taken = blocks.take(after)
            assert not any(taken in table for table in tables), "a block with a user is not given to another"
            holds.pop(taken, None)
            tables.append([taken])
        elif action == "share" and table:
            for block in table:
                blocks.share(block)
            tables.append(list(table))
        elif action == "name" and table and not blocks.shared(table[0]):
            name = bytes([number])
            if table[0] not in holds and name not in [holds.get(block) for block in blocks.find([name])]:
                holds[table[0]] = name
            blocks.name(table[0], name)
        elif action == "find":
            found = blocks.find([bytes([number])])
            assert [holds.get(block) for block in found] == [bytes([number])] * len(found)
            for block in found:
                blocks.share(block)
                tables.append([block])
        elif action == "release" and table:
            tables.remove(table)
            blocks.release(table)
        users = [sum(block in table for table in tables) for block in range(n_blocks)]
        assert blocks.used == sum(map(bool, users))
        assert blocks.free == n_blocks - blocks.used
        assert [blocks.shared(block) for block in range(n_blocks)] == [count > 1 for count in users]
    for table in tables:
        blocks.release(table)
    assert blocks.free == n_blocks
    assert sorted(blocks.take() for _ in range(n_blocks)) == list(range(n_blocks))


def test_a_block_freed_twice_is_a_mistake():
    blocks = BlockManager(2)
    taken = blocks.take()
    blocks.release([taken])
    with pytest.raises(AssertionError, match="free already"):
        blocks.release([taken])


def test_freed_blocks_are_found_until_they_are_needed_the_least_recently_used_first():
    blocks = BlockManager(3)
    first, second, third = (blocks.take() for _ in range(3))
    for block, name in ((first, b"1"), (second, b"2"), (third, b"3")):
        blocks.name(block, name)
    for block in (second, first, third):
        blocks.release([block])
    assert blocks.find([b"1", b"2", b"3", b"4"]) == [first, second, third]
    assert blocks.take() == second
    assert blocks.find([b"1", b"2"]) == [first]
    assert blocks.find([b"2"]) == []
    blocks.share(first)
    assert blocks.take() == third
    assert (blocks.free, blocks.find([b"1"])) == (0, [first])


def test_a_beginning_outlives_its_end():
    blocks = BlockManager(4)
    table = [blocks.take(), blocks.take()]
    for block, name in zip(table, (b"1", b"2"), strict=True):
        blocks.name(block, name)
    blocks.release(table)
    taken = [blocks.take() for _ in range(3)]
    assert table[1] in taken
    assert blocks.find([b"1"]) == table[:1]


def test_what_failed_is_not_found():
    blocks = BlockManager(2)
    taken = blocks.take()
    blocks.name(taken, b"1")
    blocks.release([taken], forget=True)
    assert blocks.find([b"1"]) == []
    assert blocks.free == 2


def test_sequences_grow_in_one_run():
    blocks = BlockManager(12, regions=3)
    tables = [[blocks.take()] for _ in range(3)]
    for _ in range(3):
        for table in tables:
            table.append(blocks.take(table[-1]))
    assert tables == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_rounding():
    assert [blocks_for(n) for n in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1)] == [0, 1, 1, 2]
