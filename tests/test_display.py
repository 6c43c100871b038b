"""Display: every result shows itself on one screen, as HTML in notebooks, and as a plot."""

import html

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

import bayescale as bs
from bayescale._display import Display
from bayescale.score_forecast import on_scale

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def seeds():
    rng = np.random.default_rng(0)
    rows = [("a & b", s, 3.0) for s in range(4)] + [("<c>", s, 2.98) for s in range(4)]
    frame = pd.DataFrame(rows, columns=["family", "run", "loss"])
    return bs.Runs.from_frame(frame.assign(flops=1e20, loss=frame["loss"] + 0.002 * rng.standard_normal(8)))


@pytest.fixture(scope="module")
def law():
    return bs.laws.get("chinchilla").published("besiroglu2024")


@pytest.fixture(scope="module")
def shown(marin, marin_post, seeds, law):
    """One of each result, by name."""
    compared = bs.decide.compare(
        {"a": marin_post, "b": marin_post}, at={"flops": 1e21}, range=(1e20, 1e22), pairing="independent"
    )
    ladder = bs.decide.ladders({"flops": 1e18}, {"flops": 1e20}, [4, 6])
    noise = bs.decide.noise(seeds)
    decision = bs.decide.go(marin_post, 2.6, cost=1.0, value=3.0, flops=1e21)
    return {
        "runs": marin,
        "runs of families": seeds,
        "mixture": marin_post,
        "posterior": marin_post.components[0],
        "forecast": marin_post.predict(flops=[1e21, 2e21]),
        "decision": decision,
        "allocation": bs.decide.allocate(law, 1e22),
        "allocations": bs.decide.allocate(law, [1e21, 1e22]),
        "comparison": compared,
        "duel": compared.duels[0],
        "crossing": compared.crossings[0],
        "ranking": bs.decide.next_run(marin_post, flops=1e21),
        "ranking with stakes": bs.decide.next_run(marin_post, target=2.6, cost=1.0, value=3.0, flops=1e21),
        "items": bs.decide.compare_items({"a": [1, 0, 1, 1], "<b>": [1, 0, 0, 1]}),
        "power": bs.decide.power(marin_post, ladder, width=0.1, flops=1e21),
        "reach": bs.decide.reach(marin_post, 2.6),
        "score forecast": on_scale(marin_post.predict(flops=[1e21, 2e21]), bs.ScoreScale()),
        "value forecast": on_scale(marin_post.predict(flops=[1e21, 2e21]), bs.ValueScale()),
        "stops": bs.decide.stop_early(marin_post, 2.6, flops=1e21),
        "noise": noise,
        "difference": noise.differences[0],
        "looks": noise.differences[0].looks,
        "backtest": bs.backtest(marin, largest=1, seed=0),
        "report": bs.report(marin_post, decision, with_sensitivity=False),
    }


NAMES = [
    *("runs", "runs of families", "mixture", "posterior", "forecast", "decision", "allocation", "allocations"),
    *(
        "items",
        "comparison",
        "duel",
        "crossing",
        "ranking",
        "ranking with stakes",
        "power",
        "stops",
        "noise",
        "difference",
    ),
    "looks",
    *("backtest", "report", "reach", "score forecast", "value forecast"),
]


def test_each_result_is_tried(shown):
    assert set(shown) == set(NAMES)
    # The valleys of a sweep are tried with the sweep, which takes a fit of its own.
    tried = {type(one).__mro__[0] for one in shown.values()} | {bs.decide.Sweep}
    # Those of repeated sampling are tried in test_coverage.py.
    tried |= {getattr(bs.coverage, name) for name in ("CoveragePosterior", "CoverageForecast", "Budget", "BestOfN")}
    # Pools and chains take fits of their own, see test_pool.py and test_chain.py.
    tried |= {bs.Pool, bs.Chain}
    classes, left = set(), [Display]
    while left:
        left += (below := left.pop().__subclasses__())
        classes |= set(below)
    assert {one for one in classes if one.__name__ != "Fitted"} <= tried


@pytest.mark.parametrize("name", NAMES)
def test_results_show_themselves(shown, name):
    result = shown[name]
    text = repr(result)
    assert 0 < len(text) < 4000 and text.count("\n") <= 31
    if name == "report":
        assert result._repr_html_().startswith("<iframe srcdoc=") and "<html" not in result._repr_html_()
        return
    assert result._repr_html_() == f"<pre>{html.escape(text)}</pre>"
    ax = result.plot()
    assert isinstance(ax, Axes)
    assert ax.get_title(loc="left") or ax.get_title()
    assert any(line.get_xdata() is not None for line in ax.lines) or ax.collections


def test_plots_take_the_options_of_their_functions(shown):
    from matplotlib import pyplot

    _, ax = pyplot.subplots()
    assert shown["power"].plot(ax=ax) is ax
    assert "2.5" in "".join(text.get_text() for text in shown["mixture"].plot(target=2.5).texts)


def test_what_has_no_picture_says_so():
    from bayescale.plot.records import draw

    with pytest.raises(bs.InputError, match="There is no plot for a int"):
        draw(3)
    with pytest.raises(bs.InputError, match="no scale input"):
        bs.Runs.from_frame(pd.DataFrame({"loss": [3.0, 3.1]}), inputs=()).plot()
