"""python -m tests.parity --table [--json] [--out FILE]"""

import argparse
import json
import sys
from pathlib import Path

from transformers.utils import logging

from cutaway.core.files import write_text
from cutaway.models.packaged import packaged_path
from tests.parity.table import KINDS, REAL, as_json, as_markdown, measure_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="Every model family and its reference.")
    parser.add_argument("--table", action="store_true", help="measure and print the table (what it does anyway)")
    parser.add_argument("--json", action="store_true", help="print the measurement as JSON instead")
    parser.add_argument("--out", type=Path, help="write the page into this file too")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    here = [kind for name, kind in REAL.items() if packaged_path(name) is not None]
    lines = list(measure_all((*here, *KINDS), say))
    if options.out:
        write_text(options.out, as_markdown(lines))
    print(json.dumps(as_json(lines), indent=1) if options.json else as_markdown(lines))


if __name__ == "__main__":
    main()
