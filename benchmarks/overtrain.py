"""Coverage of the default on the parameters-by-tokens grids of gadre2024overtraining, at 3 and 10 times the compute.

    python benchmarks/overtrain.py

Three data sets with eight losses each; a forecast is scored where the grid holds enough smaller runs.
"""

from __future__ import annotations

import bayescale as bs

RATIOS = (3.0, 10.0)
SOURCE = "overtrain"


def main() -> None:
    """Download the grids, hold out the largest runs and print scores averaged over families."""
    bs.corpus.fetch(SOURCE)
    table = bs.corpus.frame(SOURCE)
    losses = table[~table["metric"].str.startswith("err_")][["family", "metric"]].drop_duplicates()
    grids = [
        bs.corpus.load(SOURCE, family=family, metric=metric)
        for family, metric in losses.itertuples(index=False, name=None)
    ]
    for ratio in RATIOS:
        back = bs.backtest(grids, ratio=ratio, seed=0)
        statuses = [posterior.status.name for posterior in back.posteriors]
        print(f"C_max / {ratio:g}: {len(statuses)} fits, {statuses.count('OK')} converged")
        print(back, end="\n\n")


if __name__ == "__main__":
    main()
