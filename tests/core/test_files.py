import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from cutaway.core.errors import ResourceError
from cutaway.core.files import alone_with, new_file, new_folder, recover_folder, resource, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), new_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "run"
    for version in ("1", "2"):
        with new_folder(path) as temporary:
            (temporary / version).write_text(version)
    assert os.listdir(path) == ["2"]
    with pytest.raises(RuntimeError), new_folder(path) as temporary:
        (temporary / "3").write_text("half")
        raise RuntimeError
    assert os.listdir(path) == ["2"]
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("writing", [new_file, new_folder])
def test_where_nothing_can_be_written(tmp_path, writing):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match=r"file/b.*cannot be written"), writing(tmp_path / "file" / "b"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="Is a directory"), new_file(tmp_path / "folder"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_is_said(tmp_path):
    with pytest.raises(ResourceError, match="disk is full"), new_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_swap_cut_in_the_middle_is_undone(tmp_path):
    (tmp_path / ".run.old").mkdir()
    (tmp_path / ".run.new.x").mkdir()
    recover_folder(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


def test_who_wants_to_be_alone_waits(tmp_path):
    """Processes that add one to the number in a file, which is wrong at the end unless each is alone with it."""
    code = f"""
from pathlib import Path
from cutaway.core.files import alone_with
path = Path({str(tmp_path)!r}) / "n"
for _ in range(200):
    with alone_with(path):
        path.write_text(str(int(path.read_text()) + 1))
"""
    (tmp_path / "n").write_text("0")
    with alone_with(tmp_path / "n"):
        processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
        time.sleep(0.2)
        assert (tmp_path / "n").read_text() == "0"
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "600"
    assert os.listdir(tmp_path) == ["n"]


def test_kill_while_replacing_leaves_one_whole_folder(tmp_path):
    """A real process that replaces a folder again and again is killed at some moment; a whole one stays."""
    code = f"""
from pathlib import Path
from cutaway.core.files import new_folder
for i in range(10**6):
    with new_folder(Path({str(tmp_path)!r}) / "run") as t:
        (t / "a").write_text(str(i)); (t / "b").write_text(str(i))
"""
    for delay in (0.05, 0.11, 0.17):
        process = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 30
        while not (tmp_path / "run").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        recover_folder(tmp_path / "run")
        assert (tmp_path / "run" / "a").read_text() == (tmp_path / "run" / "b").read_text() != ""


def test_resources_are_found():
    assert resource("docs/topics").is_dir()
    with pytest.raises(ResourceError, match="missing"):
        resource("nothing")
