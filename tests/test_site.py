"""The site of the documentation is built without a warning, loads nothing from elsewhere, and has no dead link."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
"""Attributes whose addresses a browser opens by itself."""


class Page(HTMLParser):
    """What a page loads, links to, and offers as targets of links."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if given.get(LOADED.get(tag)):
            self.loads.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search("warn", done.stdout + done.stderr, re.IGNORECASE)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    found = {path: Page(path) for path in site.rglob("*.html")}
    assert len(found) > 5
    return found


def test_pages_load_nothing_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert page.loads
        assert not [address for address in page.loads if urlsplit(address).netloc], path
        # This would make the browser fetch a program that draws diagrams.
        assert 'class="mermaid"' not in path.read_text(encoding="utf-8")
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_api_pages_describe_functions_and_classes(site):
    pages = {path.name: path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html")}
    assert len(pages) > 5
    # A function may have the name of its module, which would be described in its place.
    assert not [name for name, text in pages.items() if "doc-module" in text]
    assert 'id="bayescale.decide.go.go"' in pages["decide.html"]


def test_links_within_the_site_lead_somewhere(pages):
    targets = {path.resolve(): page.anchors for path, page in pages.items()}
    dead, followed = [], 0
    for path, page in pages.items():
        # The page of an unknown address has links from the root of a server.
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            anchors = targets.get(target, set() if target.is_file() else None)
            if anchors is None or (parts.fragment and unquote(parts.fragment) not in anchors):
                dead.append(f"{path.name}: {link}")
    assert followed > 100
    assert not dead
