"""python -m bench NAME…|all [--json]"""

import argparse
import json
import pkgutil
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from bench.harness import Row


def names() -> list[str]:
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return sorted(name for name in found if name not in ("harness", "loops", "llama_cpp", "__main__"))


def table(rows: list[Row]) -> str:
    lines = [f"{'name':<44} {'ours':>10} {'peer':>10} {'ratio':>7} {'goal':>6}  unit (peer)"]
    for row in rows:
        peer = f"{row.peer:10.4g}" if row.peer is not None else " " * 10
        ratio = f"{row.ratio:7.2f}" if row.ratio is not None else " " * 7
        goal = f"{row.goal:6.3g}" if row.goal is not None else " " * 6
        lines.append(
            f"{row.name:<44} {row.ours:10.4g} {peer} {ratio} {goal}  {row.unit} ({row.peer_name or 'no peer'})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ours and the peer, side by side.")
    parser.add_argument("names", nargs="+", choices=[*names(), "all"])
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    chosen = names() if "all" in options.names else options.names
    rows = []
    for name in chosen:
        print(f"bench {name} …", file=sys.stderr, flush=True)
        with redirect_stdout(sys.stderr):  # peers print as they go
            rows += import_module(f"bench.{name}").run()
    print(json.dumps([row.json() for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
