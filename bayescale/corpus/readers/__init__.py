"""Readers: published files in, one table in the corpus' layout out; nothing is ever unpickled.

Each module reads one kind of data: `grids` (sizes by tokens), `curves` (one model's error over data or width),
`recipes` (how a model is built and trained), `models` (losses and scores of the same models), `tasks` (scores),
`agents` (games and control) and `curve_database`. `tables` defines the layout of their results, and `inert` extracts
numbers from PyTorch archives without loading them.
"""

from bayescale.corpus.readers.agents import il_games, rl_value_scaling
from bayescale.corpus.readers.curve_database import lcdb
from bayescale.corpus.readers.curves import alabdulmohsin2022, double_descent, finetune_rectified, nslpfn_colpret
from bayescale.corpus.readers.grids import datablations, epoch_chinchilla, gemstones, overtrain
from bayescale.corpus.readers.models import dclm, farseer, openclip_scaling
from bayescale.corpus.readers.recipes import multipowerlaw, quest_quant, routing, steplaw, vocab
from bayescale.corpus.readers.tasks import coverage, coverage_counts, obs_scaling, rl_depth, sloth

__all__ = [
    "alabdulmohsin2022",
    "coverage",
    "coverage_counts",
    "datablations",
    "dclm",
    "double_descent",
    "epoch_chinchilla",
    "farseer",
    "finetune_rectified",
    "gemstones",
    "il_games",
    "lcdb",
    "multipowerlaw",
    "nslpfn_colpret",
    "obs_scaling",
    "openclip_scaling",
    "overtrain",
    "quest_quant",
    "rl_depth",
    "rl_value_scaling",
    "routing",
    "sloth",
    "steplaw",
    "vocab",
]
