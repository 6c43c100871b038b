"""Leave-one-out: of one model as ArviZ has it, of a pool that of the mixture."""

import dataclasses

import arviz_stats
import numpy as np
import pytest

import bayescale as bs
from bayescale.model import parts


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo_of_a_pool_is_that_of_the_mixture(marin_post):
    found = marin_post.loo()
    own = []
    half = len(marin_post.position) // 2
    for number, job in enumerate(parts(marin_post.job)):
        some = slice(half) if number == 0 else slice(half, None)
        values = type(marin_post.values)(
            **{
                name: {k: v[some] for k, v in leaf.items()} if isinstance(leaf, dict) else leaf[some]
                for name, leaf in marin_post.values._asdict().items()
            }
        )
        stats = {name: value[some] for name, value in marin_post.stats.items()}
        own.append(
            dataclasses.replace(
                marin_post, job=job, position=marin_post.position[some], values=values, stats=stats
            ).loo()
        )
    densities = [np.exp(one.elpd_i.to_numpy()) for one in own]
    np.testing.assert_allclose(np.exp(found.elpd_i.to_numpy()), np.mean(densities, axis=0), rtol=1e-6)
    assert found.elpd == pytest.approx(float(found.elpd_i.sum()))
    # Never below the worse model, never above the better one.
    assert min(one.elpd for one in own) - 1e-9 <= found.elpd <= max(one.elpd for one in own) + 1e-9
    tree = marin_post.to_datatree()
    assert set(tree["log_likelihood"].data_vars) == {"loss_model_0", "loss_model_1"}
    with pytest.raises((ValueError, TypeError), match="var_name"):
        arviz_stats.loo(tree)


@pytest.mark.slow
@pytest.mark.oldest
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo_of_one_model_is_arviz(marin_post):
    one = bs.fit(marin_post.runs, "saturating_power", seed=0)
    assert one.loo().elpd == pytest.approx(arviz_stats.loo(one.to_datatree()).elpd, rel=1e-3)
