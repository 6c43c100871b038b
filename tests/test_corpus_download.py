"""Downloads: pinned files, local folders, damaged and missing files, no network."""

import hashlib
from pathlib import Path

import pytest

from bayescale import corpus
from bayescale.corpus import download
from bayescale.corpus.sources import SOURCES
from bayescale.errors import InputError


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Replace the network by a function from address to content, and the cache by a folder."""
    pooch = pytest.importorskip("pooch")
    served = {}

    class Downloader:
        def __call__(self, url, output_file, cache):
            if url not in served:
                raise ConnectionError("no network in tests")
            Path(output_file).write_bytes(served[url])

    monkeypatch.delenv("BAYESCALE_CORPUS", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar: Downloader())
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    return served


@pytest.fixture
def toy_source(monkeypatch):
    """A source of one small file, known to the manifest."""
    entry = download.Published(
        source="toy",
        repo="someone/somewhere",
        commit="0" * 40,
        path="data/a=1.csv",
        bytes=4,
        sha256=hashlib.sha256(b"toy\n").hexdigest(),
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
    file.write_bytes(b"toy\n")
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


def test_download_is_cached_and_repaired(offline, toy_source):
    offline[toy_source.url] = b"toy\n"
    seen = []
    root = corpus.fetch("toy", progress=lambda *at: seen.append(at))
    file = root / toy_source.local
    assert file.read_bytes() == b"toy\n"
    assert seen == [(1, 1)]
    offline.clear()
    assert corpus.fetch("toy") == root  # from the cache
    file.write_bytes(b"damaged")
    offline[toy_source.url] = b"toy\n"
    corpus.fetch("toy")
    assert file.read_bytes() == b"toy\n"


def test_failed_download_is_one_sentence(offline, toy_source):
    with pytest.raises(InputError, match="connect to the network") as caught:
        corpus.fetch("toy")
    assert toy_source.url in str(caught.value)
    assert "BAYESCALE_CORPUS" in str(caught.value)


def test_download_with_wrong_content_is_refused(offline, toy_source, tmp_path):
    offline[toy_source.url] = b"tampered\n"
    with pytest.raises(InputError, match="sha256 is not the published one"):
        corpus.fetch("toy")
    assert not (tmp_path / "bayescale" / toy_source.local).exists()
