"""Readers: upstream files as published in, one tidy table out; nothing is ever unpickled.

`grids` holds sizes by tokens, `curves` one model's error over data or width, and `tables` the layout they share.
"""

from bayescale.corpus.readers.curves import alabdulmohsin2022, double_descent, finetune_rectified, nslpfn_colpret
from bayescale.corpus.readers.grids import epoch_chinchilla, overtrain
from bayescale.corpus.readers.lcdb import lcdb

__all__ = [
    "alabdulmohsin2022",
    "double_descent",
    "epoch_chinchilla",
    "finetune_rectified",
    "lcdb",
    "nslpfn_colpret",
    "overtrain",
]
