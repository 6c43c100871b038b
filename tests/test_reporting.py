"""The page: escaped, self-contained, complete in both formats, written completely or not at all."""

import contextlib
import dataclasses
import html.parser
import importlib
import re

import pandas as pd
import pytest
from conftest import call, with_diagnostics, with_job

import bayescale as bs
from bayescale.data.log import LogEntry
from bayescale.decide.sensitivity import apart
from bayescale.errors import InputError
from bayescale.posterior import track_record
from bayescale.reporting.page import plain, table_html, table_markdown

AT = {"flops": 1e21}
HOSTILE = '<script>alert(1)</script> "x" \' =cmd|$x^{2 & `b` | ]($'


class Reader(html.parser.HTMLParser):
    """Collects tags and what they point to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "line", "rect"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        self.links += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(marin_post):
    decision = bs.decide.go(marin_post, 2.61, cost=1.2e6, value=2.5e6, unit="USD", **AT)
    return bs.report(marin_post, decision, command="bayescale report", with_sensitivity=False)


def test_the_page_asks_nothing_of_any_other_place(page):
    text = page.html()
    reader = Reader(text)
    assert reader.open == []
    assert "script" not in reader.tags
    assert reader.links, "there are pictures"
    assert all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?:", text.split("<body>")[0])
    assert len(text) < 3_000_000


def test_the_page_says_what_it_is_a_mixture_of_and_its_priors_in_words(page, marin_post):
    (part,) = [part for part in page.appendix if part.title == "What this rests on"]
    said = " ".join(part.sentences)
    assert (
        "a mixture of 3 posteriors of this law on the same runs: 50 % with floor and plateau, 25 % with a floor, 25 % "
        "without floor and plateau." in said
    )
    assert "Before the runs were seen: the law's value in the middle of the runs lies within a factor" in said
    assert "Of the posterior with floor and plateau: " in said and "Of the posterior with a floor: " in said
    assert "Plateaus(" not in page.html() and "sd=" not in said
    single = bs.report(marin_post.components[0], with_sensitivity=False)
    (part,) = [part for part in single.appendix if part.title == "What this rests on"]
    assert not any("mixture" in sentence for sentence in part.sentences)


def test_runs_of_one_size_are_told_apart_when_left_out():
    rows = pd.DataFrame({"loss": [2.5, 2.51, 2.6], "seed": [1.0, 2.0, 1.0]})
    labels = ["n_params=3e+09", "n_params=3e+09", "n_params=1e+09"]
    assert apart(labels, rows) == ["n_params=3e+09, seed 1", "n_params=3e+09, seed 2", "n_params=1e+09"]
    assert apart(labels, rows.drop(columns="seed"))[:2] == ["n_params=3e+09, loss 2.5", "n_params=3e+09, loss 2.51"]


def test_the_page_says_what_people_sign(page):
    text = page.html()
    for words in (
        "to end below a loss of 2.61?",
        f"probability {page.probability[0]:.2f}",
        "break-even 0.48",
        "Monte-Carlo error",
        "What this rests on",
        "What to run next",
        "sha256",
        "Signature",
        "bayescale report",
        "seed 0",
    ):
        assert words in text
    assert page.answer == "go"


def first_page(report):
    """Text of the first page as people read it."""
    page = report.html().split("<body>")[1].split('class="appendix"')[0]
    return re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]+"', "", page))


def test_the_first_page_has_what_is_signed_and_no_code(page):
    text = first_page(page)
    order = (
        "Should we make",
        "go",
        "What is at stake",
        "track record",
        "What would change",
        "Where this run would lie",
    )
    places = [text.index(words) for words in (*order, "Signature")]
    assert places == sorted(places)
    assert "1 × 10²¹ FLOP" in text and "1,200,000 USD" in text
    assert not re.search(r"[a-z0-9]_[a-z0-9]|\de[+-]?\d|==|flops=", text)
    markdown = page.markdown()
    assert markdown.index("What would change") < markdown.index("Signature") < markdown.index("## Appendix")
    assert markdown.index("## Appendix") < markdown.index("sha256")
    assert "break-before:page" in page.html()


def test_the_track_record_is_that_at_the_distance_of_the_question(marin_post):
    table = track_record.record()
    for factor, place in ((2.0, 2.0), (2.5, 4.0), (8.2, 8.0), (12.0, 16.0)):
        known = track_record.entry(marin_post, {"flops": 3e20 * factor})
        row = known.table.iloc[known.nearest_row]
        assert row["factor"] == place and known.factor == pytest.approx(factor)
        assert f"contained {100 * row['held80']:.0f} % of the runs of {row['families']:.0f} published" in known.text
    assert "farther than any test on ladders" in track_record.entry(marin_post, {"flops": 1e26}).text
    assert "within the data" in track_record.entry(marin_post, {"flops": 1e20}).text
    assert set(table["kind"]) == {"ladder", "curve", "several"}
    assert (table["held50"] < table["held80"]).all() and (table["held80"] < table["held95"]).all()


def test_rows_left_out_are_counted_on_the_first_page(marin_post):
    log = (
        LogEntry("diverged", "excluded", "rows 3, 9 diverged.", (3, 9)),
        LogEntry("unused", "warning", "Two recipes."),
    )
    runs = dataclasses.replace(marin_post.runs, log=log)
    post = with_job(marin_post, runs=runs)
    decision = bs.decide.go(post, 2.61, **AT)
    report = bs.report(post, decision, with_sensitivity=False)
    assert "2 rows of the table were left out" in first_page(report)
    assert "rows 3, 9 diverged." not in first_page(report)
    assert "rows 3, 9 diverged." in report.html()


def test_the_page_says_what_drew_the_draws(marin_post):
    drawn = bs.report(with_diagnostics(marin_post, method="importance")).html()
    assert "importance sampling" in drawn and "NUTS" not in drawn
    assert "NUTS" in bs.report(marin_post).html()


def test_markdown_has_the_same_facts(page):
    text = page.markdown()
    assert "**GO** - " in text
    assert "| one run with a new seed |" in text
    assert "sha256" in text
    assert "data:image" not in text


def test_hostile_names_stay_text(marin_post):
    runs = dataclasses.replace(marin_post.runs, name=HOSTILE)
    post = with_job(marin_post, runs=runs)
    decision = bs.decide.go(post, 2.61, cost=1.2e6, value=2.5e6, unit=HOSTILE, **AT)
    page = bs.report(post, decision, title=HOSTILE, command=HOSTILE, with_sensitivity=False)
    reader = Reader(page.html())
    assert reader.open == []
    assert not {"script", "iframe", "link", "form"} & set(reader.tags)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert "<script" not in page.markdown()


def test_tables_escape_and_align():
    table = pd.DataFrame({"a|b": ["x|y", "<i>"], "n": [1.0, 1000.0]})
    assert "&lt;i&gt;" in table_html(table)
    assert table_markdown(table)[0] == "| a\\|b | n |"
    assert plain("a\nb") == "a b"


def test_a_fit_alone_has_a_page(marin_post, tmp_path):
    page = bs.report(marin_post)
    assert page.answer == ""
    assert "Signature" not in page.html()
    path = page.save(tmp_path / "fit.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["fit.html"]


def test_bad_paths_are_refused(page, tmp_path):
    with pytest.raises(InputError, match=r"\.html or \.md"):
        page.save(tmp_path / "page.pdf")
    with pytest.raises(InputError, match="existing folder"):
        page.save(tmp_path / "absent" / "page.html")


@pytest.mark.slow
@pytest.mark.oldest
def test_sensitivity_moves_the_right_way(marin_post):
    table = bs.decide.sensitivity(marin_post, 2.61, **AT).set_index("change")
    width = table["high"] / table["low"]
    assert width["discrepancy twice as large"] > width["as fitted"] > width["discrepancy half as large"]
    assert width["no discrepancy: the law is exact"] < width["discrepancy half as large"]
    assert table.loc["law power, no floor", "median"] < table.loc["as fitted", "median"]
    assert width["without flops=3e+20"] > width["as fitted"]
    # The priors expect a larger discrepancy than these smooth runs show, so it is the stronger ones that widen the
    # forecast.
    assert width["priors a quarter stronger"] > width["as fitted"] > width["priors a fifth weaker"]
    assert set(table["status"]) == {"OK"}
    decision = bs.decide.go(marin_post, 2.61, cost=1.0, value=2.0, **AT)
    assert "How much depends on what was assumed" in bs.report(marin_post, decision).html()


def test_changing_assumptions_shows_how_far_it_is(marin_post, monkeypatch):
    module = importlib.import_module("bayescale.decide.sensitivity")
    asked, done = [], []

    @contextlib.contextmanager
    def bar(total, wanted, label="sampling"):
        asked.append((total, wanted))
        yield done.append

    answer = {"change": "a change", "group": "law", "probability": 0.5, "low": 2.0, "median": 2.1, "high": 2.2}
    monkeypatch.setattr(module, "progress_bar", bar)
    monkeypatch.setattr(module, "refitted", lambda label, *a, **o: answer | {"change": label})
    monkeypatch.setattr(module, "reweighted", lambda label, *a: answer | {"change": label})
    monkeypatch.setattr(module, "without_one", lambda *a: [answer, answer])
    table = bs.decide.sensitivity(marin_post, 2.6, flops=1e21)
    # One step a change; those of one run left out are one step.
    assert asked == [(len(done), None)] and len(done) == len(table) - 2 and len(done) > 4
    decision = bs.decide.go(marin_post, 2.6, at={"flops": 1e21})
    page = bs.report(marin_post, decision, progress=False)
    assert asked[1:] == [(len(done) / 2, False)]
    # A law has one name on the whole page, in texts and pictures.
    assert "plateau power" not in page.html() and "plateau_power: " in page.html()
    assert "saturating_power" in page.html()


def test_no_bar_where_a_program_reads_the_answer(marin_post, tmp_path, monkeypatch, capsys):
    marin_post.save(tmp_path / "fit.nc")
    asked = []
    right = bs.report
    monkeypatch.setattr(bs, "report", lambda *a, progress, **o: asked.append(progress) or right(*a, **o))
    for more in ([], ["--json"]):
        line = ["decide", tmp_path / "fit.nc", "--at", "flops=1e21", "--target", "2.6", "--no-sensitivity", *more]
        assert call(*line, "--report", tmp_path / "page.md") == 0
        assert capsys.readouterr().err.count("\n") == (0 if more else 1)
    assert asked == [None, False]
