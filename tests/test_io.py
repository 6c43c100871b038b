"""Files are written completely or not at all, and what cannot be written is refused before work is done."""

import os
import stat

import pandas as pd
import pytest
from conftest import MARIN, call

from bayescale import _io
from bayescale.cli.options import members
from bayescale.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.txt"
    assert _io.write_text(path, "eins") == path
    _io.write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü" and names(tmp_path) == ["a.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    usual = tmp_path / "usual"
    usual.write_text("")
    for mask in (0o022, 0o077, 0o002):
        old = os.umask(mask)
        try:
            path = _io.write_text(tmp_path / f"{mask}", "")
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(_io.write_text(tmp_path / "new", "").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_permissions_of_a_replaced_file_stay(tmp_path):
    path = _io.write_text(tmp_path / "a", "1")
    path.chmod(0o640)
    assert stat.S_IMODE(_io.write_text(path, "2").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    _io.write_text(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


def test_a_failure_leaves_the_old_file(tmp_path):
    path = _io.write_text(tmp_path / "a", "old")

    def half(part):
        part.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        _io.write(path, half)
    assert path.read_text() == "old" and names(tmp_path) == ["a"]


def cannot(tmp_path, kind):
    (tmp_path / "file").write_text("x")
    paths = {
        "folder": tmp_path,
        "no name": "",
        "absent folder": tmp_path / "no" / "a",
        "file as folder": tmp_path / "file" / "a",
        "long name": tmp_path / ("n" * 300),
        "long path": tmp_path / "/".join(["d" * 200] * 30),
        "device": "/dev/null",
        "no such name": f"{tmp_path}/a\0b",
        "kernel's folder": "/proc/a",
    }
    if kind == "pipe":
        os.mkfifo(tmp_path / "pipe")
        return tmp_path / "pipe"
    return paths[kind]


KINDS = ("folder", "no name", "absent folder", "file as folder", "long name", "long path", "device", "no such name")


@pytest.mark.parametrize("kind", [*KINDS, "kernel's folder", "pipe"])
def test_what_cannot_be_written_is_refused_in_one_sentence(tmp_path, kind):
    path = cannot(tmp_path, kind)
    before = names(tmp_path)
    for ask in (_io.writable, lambda path: _io.write(path, lambda part: pytest.fail("work was done"))):
        with pytest.raises(InputError) as caught:
            ask(path)
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    assert names(tmp_path) == before


def test_devices_stay_devices():
    before = os.stat("/dev/null")
    with pytest.raises(InputError, match="device or pipe"):
        _io.write_text("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and os.stat("/dev/null").st_ino == before.st_ino


@pytest.mark.parametrize("verb", ["fit", "read", "backtest"])
@pytest.mark.parametrize("out", ["/dev/null", "no folder/x.nc", "n" * 300])
def test_the_command_refuses_before_work(tmp_path, capsys, verb, out):
    table = tmp_path / "runs.csv"
    pd.DataFrame(MARIN).to_csv(table, index=False)
    assert call(verb, table, "--out", out) == 2
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) < 400
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_names_of_families_make_no_file_name_too_long(tmp_path):
    paths = members(tmp_path / "fit.nc", ["a" * 400, "a" * 401, "b"])
    assert len(set(paths)) == 3
    for path in paths:
        _io.writable(path)


def test_asking_leaves_nothing(tmp_path):
    assert _io.writable(tmp_path / "a") == tmp_path / "a"
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_read_only_folders_and_files(tmp_path):
    path = _io.write_text(tmp_path / "a", "x")
    path.chmod(0o444)
    with pytest.raises(InputError, match="read-only"):
        _io.writable(path)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            _io.writable(tmp_path / "b")
    finally:
        tmp_path.chmod(0o755)
