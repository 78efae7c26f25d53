"""How long computations take."""

import math
import time
from collections.abc import Callable

from cutaway.labs.fit import one_thread


def fastest_ms(*works: Callable[[], object], times: int) -> list[float]:
    """Milliseconds that each of the works takes on one thread: the fewest of some runs, taken in turn after one that does not
    count. It is the processor's time, which whatever else the machine does hardly lengthens."""
    found = [math.inf] * len(works)
    with one_thread():
        for run in range(times + 1):
            for place, work in enumerate(works):
                started = time.process_time()
                work()
                if run:
                    found[place] = min(found[place], 1000 * (time.process_time() - started))
    return found
