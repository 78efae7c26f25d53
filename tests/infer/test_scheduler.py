"""The scheduler under random work, with a cache that remembers which tokens were put where."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.infer.blocks import BLOCK_SIZE, BlockManager, blocks_for
from cutaway.infer.scheduler import PATIENCE, Scheduler
from cutaway.infer.sequence import TokenSequence

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 60), st.integers(0, 2)),  # length, priority
        st.tuples(st.just("step"), st.just(0), st.just(0)),
        st.tuples(st.just("fork"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
    ),
    max_size=60,
)


class Simulation:
    """A scheduler with what a runner would keep: of each position of each block, the tokens up to there."""

    def __init__(self, n_blocks: int, max_batch: int = 3, budget: int = 20, chunk: int = 8, guesses: int = 0):
        self.scheduler: Scheduler[TokenSequence] = Scheduler(BlockManager(n_blocks, 2), max_batch, budget, chunk)
        self.cache: list[list[tuple[int, ...] | None]] = [[None] * BLOCK_SIZE for _ in range(n_blocks)]
        self.done: list[str] = []
        self.guesses = guesses

    def add(self, ids: list[int], priority: int = 0, **settings) -> TokenSequence:
        sequence = TokenSequence(str(self.scheduler._added), ids, priority, **settings)
        self.scheduler.add(sequence)
        return sequence

    def step(self, length: int = 64) -> list[TokenSequence]:
        """Compute what is scheduled, checking all that is read; write a token where one is due. Those that have one."""
        scheduler = self.scheduler
        for one in scheduler.running:
            if one.pending == 1:
                one.guesses = [(len(one.ids) + i) % 7 if i < len(one.ids) % 4 else 9 for i in range(self.guesses)]
        step = scheduler.schedule()
        for source, target in step.copies:
            self.cache[target] = list(self.cache[source])
        assert len(scheduler.running) <= scheduler.max_batch
        assert sum(chunk.stop - chunk.start + len(chunk.guesses) for chunk in step.chunks) <= scheduler.budget
        assert len({id(chunk.sequence) for chunk in step.chunks}) == len(step.chunks)
        for chunk in step.chunks:
            one = chunk.sequence
            assert one in scheduler.running
            assert 0 < chunk.stop - chunk.start <= scheduler.chunk
            for at in range(chunk.start):
                assert self.at(one, at) == tuple(one.ids[: at + 1]), "a position holds what was put there"
            guessed = [*one.ids, *chunk.guesses]
            for at in range(chunk.start, chunk.stop + len(chunk.guesses)):
                block = one.table[at // BLOCK_SIZE]
                assert not scheduler.blocks.shared(block), "nobody writes where another reads"
                self.cache[block][at % BLOCK_SIZE] = tuple(guessed[: at + 1])
        scheduler.commit(step)
        last = [chunk for chunk in step.chunks if chunk.last]
        wrote = [chunk.sequence for chunk in last]
        for one, guesses in [(chunk.sequence, chunk.guesses) for chunk in last]:
            for guess in [*guesses, None]:
                one.ids.append(len(one.ids) % 7)
                if guess != one.ids[-1] or len(one.ids) >= length:
                    break
                scheduler.accept(one, 1)
            if len(one.ids) >= length:
                self.done.append(one.id)
                scheduler.remove(one)
        self.check_blocks()
        return wrote

    def at(self, one: TokenSequence, position: int) -> tuple[int, ...] | None:
        return self.cache[one.table[position // BLOCK_SIZE]][position % BLOCK_SIZE]

    def check_blocks(self) -> None:
        tables = [one.table for one in self.scheduler.running]
        assert self.scheduler.blocks.used == len({block for table in tables for block in table})
        assert not any(one.table for one in self.scheduler.waiting)


@settings(deadline=None)
@given(ACTIONS, st.integers(4, 12), st.integers(1, 4), st.integers(0, 20), st.sampled_from([0, 0, 3, 20]))
def test_nothing_is_lost_and_everybody_ends(actions, n_blocks, max_batch, spare, guesses):
    simulation = Simulation(n_blocks, max_batch, max_batch + spare, guesses=guesses)
    scheduler, everyone = simulation.scheduler, []
    for action, number, priority in actions:
        running = scheduler.running
        if action == "add":
            everyone.append(simulation.add([i % 3 for i in range(number)], priority))
        elif action == "step":
            simulation.step()
        elif action == "fork":
            ready = [one for one in running if one.pending == 1 and one.computed]
            if ready:
                parent = ready[number % len(ready)]
                child = TokenSequence(f"{parent.id}+{len(everyone)}", parent.ids[: parent.prompt_length])
                child.ids = list(parent.ids)
                scheduler.fork(parent, child)
                everyone.append(child)
        elif everyone:
            one = everyone.pop(number % len(everyone))
            if one in running or one in scheduler.waiting:
                scheduler.remove(one)
        simulation.check_blocks()
    left = {one.id for one in everyone} - set(simulation.done)
    for _ in range(1000 + 100 * len(left)):
        if scheduler.idle:
            break
        simulation.step()
    assert scheduler.idle, "whoever waits gets a turn"
    assert left <= set(simulation.done)
    assert scheduler.blocks.used == 0


def test_writing_comes_before_reading_under_the_budget():
    simulation = Simulation(64, max_batch=4, budget=10, chunk=8)
    first = simulation.add([1] * 5)
    assert simulation.step() == [first]
    long, short = simulation.add([2] * 30), simulation.add([3] * 4)
    chunks = [(c.sequence, c.stop - c.start) for c in simulation.scheduler.schedule().chunks]
    assert chunks == [(first, 1), (long, 8), (short, 1)]


def test_first_come_first_served_within_a_priority():
    simulation = Simulation(64, max_batch=1, budget=100, chunk=100)
    order = [simulation.add([n], priority) for n, priority in enumerate([1, 1, 0, 2, 0])]
    while not simulation.scheduler.idle:
        simulation.step(length=2)
    assert simulation.done == [order[n].id for n in (2, 4, 0, 1, 3)]


def test_whoever_waits_long_enough_is_not_overtaken():
    simulation = Simulation(64, max_batch=1, budget=100, chunk=100)
    late = simulation.add([1], priority=1)
    for _ in range(PATIENCE + 50):
        simulation.add([2])
    while late.id not in simulation.done:
        simulation.step(length=2)
    assert len(simulation.done) == PATIENCE


def test_when_blocks_run_out_the_last_in_rank_waits_and_keeps_its_tokens():
    simulation = Simulation(5, max_batch=3, budget=100, chunk=100)
    urgent, first, second = (simulation.add([n] * 14, priority) for n, priority in enumerate([0, 1, 1]))
    seen = set()
    while not simulation.scheduler.idle:
        simulation.step(length=60)
        if second in simulation.scheduler.waiting and len(second.ids) > 14:
            seen.add("second")
        assert urgent in simulation.scheduler.running or urgent.id in simulation.done
    assert seen == {"second"}
    assert simulation.done == [urgent.id, first.id, second.id]


def test_a_beginning_that_was_read_is_not_read_again():
    simulation = Simulation(32, budget=100, chunk=100)
    prompt = [n % 5 for n in range(40)]
    first = simulation.add(prompt)
    together = simulation.add([*prompt[:36], 9])
    assert simulation.step() == [first], "the other waits for what the first reads"
    simulation.step()
    assert (first.cached, together.cached) == (0, 32)
    while not simulation.scheduler.idle:
        simulation.step()
    again, salted, unshared = (
        simulation.add(prompt, **how) for how in ({}, {"salt": "another adapter"}, {"reuse": False})
    )
    simulation.step()
    assert (again.cached, salted.cached, unshared.cached) == (32, 0, 0)


def test_inputs_are_part_of_what_is_shared():
    simulation = Simulation(32, max_batch=4, budget=200, chunk=100)
    seen, same, other = (
        simulation.add([4] * 40, extra=lambda start, stop, b=b: bytes([b if start < 20 else 0] * (stop - start)))
        for b in (1, 1, 2)
    )
    simulation.step()
    simulation.step()
    assert (seen.cached, same.cached, other.cached) == (0, 32, 0)


def test_a_fork_shares_blocks_until_it_writes():
    simulation = Simulation(8, max_batch=3, budget=100, chunk=100)
    parent = simulation.add([1] * 20)
    simulation.step()
    children = [TokenSequence(f"child {n}", parent.ids[:20]) for n in range(3)]
    for child in children:
        simulation.scheduler.fork(parent, child)
        child.ids = [*parent.ids[:20], 5]
    assert [child in simulation.scheduler.running for child in children] == [True, True, False]
    assert simulation.scheduler.blocks.used == 2
    step = simulation.scheduler.schedule()
    assert len(step.copies) == 2, "the last of the three may write where it is"
    assert simulation.scheduler.blocks.used == 1 + 3 == 1 + blocks_for(20) + 1
