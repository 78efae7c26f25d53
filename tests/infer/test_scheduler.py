"""The scheduler under random work: rows stay compact, nobody starves, nothing is lost."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cutaway.infer.scheduler import Move, Scheduler


@dataclass(frozen=True)
class Job:
    id: str
    prompt_length: int


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 50)),
        st.tuples(st.just("admit"), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 4), st.integers(1, 60))
def test_rows_hold_who_they_should(actions, rows, budget):
    scheduler: Scheduler[Job] = Scheduler(rows, budget)
    cache: list[str | None] = [None] * rows  # what each row of the cache holds, moved as the scheduler says
    added: list[str] = []
    started: list[str] = []
    removed: set[str] = set()
    for action, number in actions:
        if action == "add":
            scheduler.add(Job(str(len(added)), number))
            added.append(str(len(added)))
        elif action == "admit":
            for row, job in scheduler.admit():
                assert row < rows
                cache[row] = job.id
                started.append(job.id)
        else:
            found, move = scheduler.remove(str(number))
            assert (found is not None) == (str(number) in added and str(number) not in removed)
            removed |= {str(number)} if found else set()
            if move:
                cache[move.target] = cache[move.source]
        assert [job.id for job in scheduler.running] == cache[: len(scheduler.running)]
        assert len(scheduler.running) <= rows
    # First come, first served, and everybody gets a turn: whoever is not removed is admitted within as many steps as wait.
    waiting = [job.id for job in scheduler.waiting]
    later = []
    while not scheduler.idle:
        later += [job.id for _, job in scheduler.admit()]
        assert scheduler.running
        scheduler.remove(scheduler.running[0].id)
    assert later == waiting
    assert [*started, *later] == sorted([*started, *later], key=int)
    assert set(added) - removed <= {*started, *later}


def test_the_last_row_moves_into_the_gap():
    scheduler: Scheduler[Job] = Scheduler(3, 100)
    for name in "abc":
        scheduler.add(Job(name, 1))
    scheduler.admit()
    assert scheduler.remove("a") == (Job("a", 1), Move(2, 0))
    assert [job.id for job in scheduler.running] == ["c", "b"]
    assert scheduler.remove("b")[1] is None
    assert scheduler.remove("zzz") == (None, None)


def test_long_prompts_start_one_step_at_a_time():
    scheduler: Scheduler[Job] = Scheduler(4, 10)
    for name, length in (("a", 50), ("b", 6), ("c", 3), ("d", 5)):
        scheduler.add(Job(name, length))
    admitted = [[job.id for _, job in scheduler.admit()] for _ in range(3)]
    assert admitted == [["a"], ["b", "c"], ["d"]]
