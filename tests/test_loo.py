"""Leave-one-out: of one model as ArviZ has it, of a mixture that of the mixture."""

import arviz_stats
import numpy as np
import pytest

import bayescale as bs
from bayescale.posterior.loo import elpd


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo_of_a_mixture_is_that_of_the_mixture(marin_post):
    found = marin_post.loo()
    own = [part.loo() for part in marin_post.components]
    densities = [np.exp(one.elpd_i.to_numpy()) for one in own]
    np.testing.assert_allclose(
        np.exp(found.elpd_i.to_numpy()), np.average(densities, axis=0, weights=marin_post.weights), rtol=1e-6
    )
    assert found.elpd == pytest.approx(float(found.elpd_i.sum()))
    assert [elpd(part) for part in marin_post.components] == pytest.approx([one.elpd for one in own], abs=0.05)
    # Never below the worse model, never above the better one.
    assert min(one.elpd for one in own) - 1e-9 <= found.elpd <= max(one.elpd for one in own) + 1e-9
    uneven = bs.Mixture(marin_post.components[:2], (0.9, 0.1)).loo()
    expected = 0.9 * densities[0] + 0.1 * densities[1]
    np.testing.assert_allclose(np.exp(uneven.elpd_i.to_numpy()), expected, rtol=1e-6)
    child = marin_post.to_datatree()["component_present"]
    assert arviz_stats.loo(child).elpd == pytest.approx(own[0].elpd, rel=1e-3)


@pytest.mark.oldest
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo_of_one_model_is_arviz(marin_post):
    one = bs.fit(marin_post.runs, "saturating_power", seed=0)
    assert one.loo().elpd == pytest.approx(arviz_stats.loo(one.to_datatree()).elpd, rel=1e-3)
