"""Downloads: pinned files, local folders, damaged and missing files, no network."""

import concurrent.futures
import functools
import hashlib
import http.server
import json
import socket
import threading

import conftest
import pytest

from bayescale import corpus
from bayescale.corpus import download
from bayescale.corpus.sources import SOURCES
from bayescale.errors import InputError


class Server:
    """A web server on this machine that serves bytes by path and can misbehave.

    Attributes:
        content: Bytes by path.
        asked: The Range header of every request, in order.
        cuts: After how many bytes to break off the next answers, one entry an answer.
        continues: Whether to honour Range headers.
        status: Status to answer with instead of content, if not 0.
    """

    def __init__(self):
        self.content, self.asked, self.cuts, self.continues, self.status = {}, [], [], True, 0

    def answer(self, request):
        asked = request.headers.get("Range")
        self.asked.append(asked)
        content = self.content.get(request.path)
        if content is None or self.status:
            request.send_error(self.status or 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.continues else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(content)
        request.wfile.write(content[start : start + cut])


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A local server instead of the network, no waiting, and a cache of its own."""
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.delenv("BAYESCALE_CORPUS", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
        monkeypatch.setattr(download, "ADDRESS", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setattr(download, "_WAITS", (0, 0))
        yield served
        running.shutdown()


TOY = bytes(range(256)) * 1000
TOY_PATH = f"/someone/somewhere/{'0' * 40}/data/a=1.csv"


@pytest.fixture
def toy_source(monkeypatch):
    """A source of one small file, known to the manifest."""
    entry = download.Published(
        source="toy",
        repo="someone/somewhere",
        commit="0" * 40,
        path="data/a=1.csv",
        bytes=len(TOY),
        sha256=hashlib.sha256(TOY).hexdigest(),
        licence="MIT",
        paper="none",
        arxiv_id="",
    )
    monkeypatch.setattr(download, "manifest", lambda: {"toy": (entry,)})
    return entry


def test_manifest_pins_every_file():
    manifest = download.manifest()
    assert [name for name in SOURCES if name in manifest] == list(manifest)
    assert set(SOURCES) - set(manifest) == {"lcdb"}
    assert {name: len(manifest[name]) for name in ("epoch_chinchilla", "overtrain")} == {
        "epoch_chinchilla": 1,
        "overtrain": 211,
    }
    for entry in [entry for files in manifest.values() for entry in files]:
        assert len(entry.commit) == 40
        assert len(entry.sha256) == 64
        assert entry.bytes > 0
        assert entry.licence
        assert entry.paper


def test_local_folder_replaces_the_network(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    file = tmp_path / "someone+somewhere" / "data" / "a=1.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(TOY)
    seen = []
    assert corpus.fetch("toy", progress=lambda *at: seen.append(at)) == tmp_path
    assert seen == [(1, 1)]
    assert download.files("toy") == {"data/a=1.csv": file}


def test_missing_local_file_is_named(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        corpus.fetch("toy")
    message = str(caught.value)
    for words in ("a=1.csv is missing", toy_source.sha256, toy_source.url, "unset"):
        assert words in message


def test_damaged_local_file_is_named_with_both_checksums(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    file = tmp_path / "someone+somewhere" / "data" / "a=1.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"other\n")
    with pytest.raises(InputError) as caught:
        corpus.fetch("toy")
    message = str(caught.value)
    found = hashlib.sha256(b"other\n").hexdigest()
    for words in (str(file), f"expected sha256 {toy_source.sha256}", f"found {found}", "Replace"):
        assert words in message


def test_download_is_cached_and_verified_again(server, toy_source):
    server.content[TOY_PATH] = TOY
    seen = []
    root = corpus.fetch("toy", progress=lambda *at: seen.append(at))
    file = root / toy_source.local
    assert file.read_bytes() == TOY
    assert seen == [(1, 1)]
    assert corpus.state("toy") == "verified (1 file)"
    server.content.clear()
    assert corpus.fetch("toy") == root  # from the cache
    file.write_bytes(b"damaged")
    assert corpus.state("toy") == "damaged (data/a=1.csv)"
    server.content[TOY_PATH] = TOY
    corpus.fetch("toy")
    assert file.read_bytes() == TOY
    assert len(server.asked) == 2
    assert [path.name for path in file.parent.iterdir()] == ["a=1.csv"]


def test_cut_connection_is_continued(server, toy_source):
    server.content[TOY_PATH] = TOY
    server.cuts = [81_920]
    root = corpus.fetch("toy")
    assert (root / toy_source.local).read_bytes() == TOY
    assert server.asked == [None, "bytes=81920-"]


def test_next_call_continues_where_the_last_one_gave_up(server, toy_source):
    server.content[TOY_PATH] = TOY
    server.cuts = [8192, 8192, 8192]
    with pytest.raises(InputError, match="connect to the network and try again"):
        corpus.fetch("toy")
    folder = (download.cache_folder() / toy_source.local).parent
    assert [(path.name, path.stat().st_size) for path in folder.iterdir()] == [("a=1.csv.part", 24576)]
    assert corpus.state("toy") == "not fetched"
    server.asked.clear()
    corpus.fetch("toy")
    assert server.asked == ["bytes=24576-"]
    assert (folder / "a=1.csv").read_bytes() == TOY


def test_server_that_cannot_continue_starts_again(server, toy_source):
    server.content[TOY_PATH] = TOY
    server.continues = False
    server.cuts = [81_920]
    root = corpus.fetch("toy")
    assert (root / toy_source.local).read_bytes() == TOY
    assert server.asked == [None, "bytes=81920-"]


@pytest.mark.parametrize("left", [b"something else", b"x" * (len(TOY) + 1), b"x" * len(TOY)])
def test_wrong_remains_of_an_earlier_attempt_are_replaced(server, toy_source, left):
    server.content[TOY_PATH] = TOY
    part = download.cache_folder() / f"{toy_source.local}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    root = corpus.fetch("toy")
    assert (root / toy_source.local).read_bytes() == TOY
    assert not part.exists()


def test_interrupted_download_leaves_no_half_file(server, toy_source, monkeypatch):
    server.content[TOY_PATH] = TOY

    def interrupt(entry, part):
        part.write_bytes(TOY[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "_append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            corpus.fetch("toy")
    folder = (download.cache_folder() / toy_source.local).parent
    assert [path.name for path in folder.iterdir()] == ["a=1.csv.part"]
    corpus.fetch("toy")
    assert server.asked == ["bytes=10-"]
    assert [path.name for path in folder.iterdir()] == ["a=1.csv"]


def test_two_downloads_at_once_do_not_mix(server, toy_source):
    server.content[TOY_PATH] = TOY
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for root in pool.map(corpus.fetch, ["toy"] * 4):
            assert (root / toy_source.local).read_bytes() == TOY


def test_download_with_wrong_content_is_refused(server, toy_source):
    server.content[TOY_PATH] = b"tampered" * 32_000
    with pytest.raises(InputError, match="sha256 is not the published one"):
        corpus.fetch("toy")
    assert list((download.cache_folder() / toy_source.local).parent.iterdir()) == []


def test_file_that_is_gone_is_not_asked_for_again(server, toy_source):
    with pytest.raises(InputError, match="the server answers 404") as caught:
        corpus.fetch("toy")
    assert toy_source.url in str(caught.value)
    assert len(server.asked) == 1


def test_overloaded_server_is_asked_again(server, toy_source):
    server.content[TOY_PATH] = TOY
    server.status = 503
    with pytest.raises(InputError, match="the server answers 503"):
        corpus.fetch("toy")
    assert len(server.asked) == 3


def test_no_network_is_one_sentence(server, toy_source, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(download, "ADDRESS", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(InputError, match="connect to the network") as caught:
            corpus.fetch("toy")
    for words in (toy_source.url, "BAYESCALE_CORPUS", "<owner>+<repo>/<path>", "ConnectionError"):
        assert words in str(caught.value)


def test_cache_that_cannot_be_written_is_one_sentence(server, toy_source):
    download.cache_folder().write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cache folder cannot be written"):
        corpus.fetch("toy")


def test_states_of_a_source_of_several_files(server, toy_source, monkeypatch):
    entries = tuple(toy_source._replace(path=f"data/{i}.csv") for i in range(3))
    monkeypatch.setattr(download, "manifest", lambda: {"toy": entries})
    assert corpus.state("toy") == "not fetched"
    path = download.cache_folder() / entries[0].local
    path.parent.mkdir(parents=True)
    path.write_bytes(TOY)
    assert corpus.state("toy") == "incomplete (1 of 3 files)"


def test_states_of_what_is_no_download():
    assert corpus.state("cerebras_gpt") == "built in"
    with pytest.raises(InputError, match="Did you mean 'overtrain'"):
        corpus.state("overtrian")
    with pytest.raises(InputError, match="nothing to fetch"):
        corpus.fetch("cerebras_gpt")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def toy_vocab(server, toy_source, monkeypatch):
    """The source `vocab` with one small file, served on this machine."""
    files = {"vocab": (toy_source._replace(source="vocab"),)}
    monkeypatch.setattr(download, "manifest", lambda: files)
    server.content[TOY_PATH] = TOY
    return files["vocab"][0]


call = functools.partial(conftest.call, "corpus")


def test_list_shows_licence_paper_state_and_caveats(toy_vocab, capsys):
    assert call("list", "--json") == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["entries"]}
    assert entries["vocab"]["state"] == "not fetched"
    assert entries["vocab"]["licence"] == "MIT"
    assert "negative" in entries["vocab"]["caveats"]
    assert entries["cerebras_gpt"]["state"] == "built in"
    assert call("list") == 0
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header == ["name", "state", "families", "rows", "inputs", "licence", "paper", "arxiv_id", "caveats"]


def test_fetch_is_silent_in_pipes(toy_vocab, capsys):
    assert call("fetch", "vocab") == 0
    out, err = capsys.readouterr()
    assert out == f"vocab: verified (1 file) in {download.cache_folder()}\n"
    assert err == ""
    assert call("fetch", "--all", "--json") == 0
    assert json.loads(capsys.readouterr().out)["fetched"] == [
        {"name": "vocab", "folder": str(download.cache_folder()), "state": "verified (1 file)"}
    ]


def test_fetch_shows_a_bar_on_a_terminal(toy_vocab, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take any stream for a terminal
    assert call("fetch", "vocab") == 0
    out, err = capsys.readouterr()
    assert out.startswith("vocab: verified")
    assert "1/1" in err


def test_fetch_without_a_network_or_a_name_is_one_sentence(toy_vocab, server, capsys):
    server.status = 404
    for arguments, words in [
        (("fetch", "vocab"), "the server answers 404"),
        (("fetch",), "--all"),
        (("fetch", "vocab", "vocap"), "Did you mean 'vocab'"),
        (("fetch", "cerebras_gpt"), "nothing to fetch"),
    ]:
        assert call(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
        assert err.count("\n") == 1


def test_show_tells_what_to_know_before_the_rows(capsys):
    assert call("show", "cerebras_gpt") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("family,run,seed")
    for words in ("licence: ", "caveats: ", "state: built in", "paper: "):
        assert words in err
    assert call("show", "cerebras_gpt", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["entry"]["caveats"]
    assert len(shown["rows"]) == out.count("\n") - 1
