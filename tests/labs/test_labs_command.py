"""`cutaway labs`: the list in both languages, a run, and what is refused."""

import json

from typer.testing import CliRunner

from cutaway.cli.labs import app
from cutaway.labs.runner import known_labs


def call(*words: str):
    return CliRunner().invoke(app, list(words))


def test_the_list_is_of_all_labs():
    rows = json.loads(call("list", "--json").output)
    assert [row["id"] for row in rows] == list(known_labs())
    assert call("list", "--zh").output.splitlines()[0] == f"{rows[0]['id']:02d}  {rows[0]['title']['zh']}"


def test_a_run_writes_the_record_and_the_plot(tmp_path):
    done = call("run", "24", "--quick", "--out", str(tmp_path))
    assert done.exit_code == 0
    [record] = json.loads((tmp_path / "report.json").read_text())
    assert (record["id"], record["verdict"], record["quick"]) == (24, record["expected"], True)
    assert all((tmp_path / plot).stat().st_size > 5_000 for plot in record["plots"])


def test_a_name_that_is_no_number_is_refused(tmp_path):
    done = call("run", "tokens", "--out", str(tmp_path))
    assert done.exit_code != 0
    assert "labs are named by number" in str(done.exception)
