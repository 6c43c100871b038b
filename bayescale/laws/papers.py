"""Papers of the laws: authors, year and title by citation key, so that laws can be found by their authors."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bayescale.laws.papers_downstream import DOWNSTREAM


class Paper(NamedTuple):
    """A paper: the family names of its authors, whether there are further authors, its year and title."""

    authors: tuple[str, ...]
    more: bool
    year: int
    title: str

    @property
    def label(self) -> str:
        """Authors and year in the form of a citation: ``Muennighoff et al. 2023``."""
        if len(self.authors) == 2 and not self.more:
            return f"{' and '.join(self.authors)} {self.year}"
        if not self.authors:
            return f"{self.title} {self.year}"
        others = " et al." if self.more or len(self.authors) > 1 else ""
        return f"{self.authors[0]}{others} {self.year}"


PAPERS: dict[str, Paper] = {
    "kaplan2020scaling": Paper(
        ("Kaplan", "McCandlish", "Henighan", "Brown", "Chess", "Child", "Gray", "Radford", "Wu", "Amodei"),
        False,
        2020,
        "Scaling Laws for Neural Language Models",
    ),
    "alabdulmohsin2022revisiting": Paper(
        ("Alabdulmohsin", "Neyshabur", "Zhai"),
        False,
        2022,
        "Revisiting Neural Scaling Laws in Language and Vision",
    ),
    "hoffmann2022training": Paper(
        ("Hoffmann", "Borgeaud", "Mensch", "Buchatskaya", "Cai", "Rutherford"),
        True,
        2022,
        "Training Compute-Optimal Large Language Models",
    ),
    "besiroglu2024chinchilla": Paper(
        ("Besiroglu", "Erdil", "Barnett", "You"),
        False,
        2024,
        "Chinchilla Scaling: A Replication Attempt",
    ),
    "gadre2024overtraining": Paper(
        ("Gadre", "Smyrnis", "Shankar", "Gururangan", "Wortsman"),
        True,
        2024,
        "Language Models Scale Reliably with Over-Training and on Downstream Tasks",
    ),
    "skaling2026": Paper(
        (),
        False,
        2026,
        "Skaling joint scaling-law form",
    ),
    "hestness2017deep": Paper(
        ("Hestness", "Narang", "Ardalani", "Diamos"),
        True,
        2017,
        "Deep Learning Scaling is Predictable, Empirically",
    ),
    "henighan2020scaling": Paper(
        ("Henighan", "Kaplan", "Katz"),
        True,
        2020,
        "Scaling Laws for Autoregressive Generative Modeling",
    ),
    "bahri2021explaining": Paper(
        ("Bahri", "Dyer", "Kaplan", "Lee", "Sharma"),
        False,
        2021,
        "Explaining Neural Scaling Laws",
    ),
    "caballero2022broken": Paper(
        ("Caballero", "Gupta", "Rish", "Krueger"),
        False,
        2022,
        "Broken Neural Scaling Laws",
    ),
    "liu2025superposition": Paper(
        ("Liu", "Liu", "Gore"),
        False,
        2025,
        "Superposition Yields Robust Neural Scaling",
    ),
    "nezhurina2025vision": Paper(
        ("Nezhurina",),
        True,
        2025,
        "Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models and Datasets",
    ),
    "yao2024timeseries": Paper(
        ("Yao",),
        True,
        2024,
        "Towards Neural Scaling Laws for Time Series Foundation Models",
    ),
    "zhang2025dpa3": Paper(
        ("Zhang", "Peng", "Cai", "Li"),
        True,
        2025,
        "A Graph Neural Network for the Era of Large Atomistic Models",
    ),
    "stanic2023languini": Paper(
        ("Stanic",),
        True,
        2023,
        "The Languini Kitchen: Enabling Language Modelling Research at Different Scales of Compute",
    ),
    "lin2024imitation": Paper(
        ("Lin", "Hu"),
        True,
        2024,
        "Data Scaling Laws in Imitation Learning for Robotic Manipulation",
    ),
    "wang2025worldpm": Paper(
        ("Wang",),
        True,
        2025,
        "WorldPM: Scaling Human Preference Modeling",
    ),
    "wang2025patchification": Paper(
        ("Wang",),
        True,
        2025,
        "Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More",
    ),
    "ding2025dissecting": Paper(
        ("Ding",),
        True,
        2025,
        "Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models",
    ),
    "lai2025exploring": Paper(
        ("Lai",),
        True,
        2025,
        "Exploring Scaling Laws of CTR Model for Online Performance Improvement",
    ),
    "wortsman2023small": Paper(
        ("Wortsman",),
        True,
        2023,
        "Small-scale Proxies for Large-scale Transformer Training Instabilities",
    ),
    "su2024unraveling": Paper(
        ("Su", "Tian", "Shen", "Cai"),
        False,
        2024,
        "Unraveling the Mystery of Scaling Laws: Part I",
    ),
    "pearce2024reconciling": Paper(
        ("Pearce", "Song"),
        False,
        2024,
        "Reconciling Kaplan and Chinchilla Scaling Laws",
    ),
    "porian2024resolving": Paper(
        ("Porian", "Wortsman", "Jitsev", "Schmidt", "Carmon"),
        False,
        2024,
        "Resolving Discrepancies in Compute-Optimal Scaling of Language Models",
    ),
    "mcleish2025gemstones": Paper(
        ("McLeish",),
        True,
        2025,
        "Gemstones: A Model Suite for Multi-Faceted Scaling Laws",
    ),
    "li2025farseer": Paper(
        ("Li", "Zheng", "Wang", "Ding"),
        True,
        2025,
        "Predictable Scale: Part II, Farseer: A Refined Scaling Law in Large Language Models",
    ),
    "muennighoff2023scaling": Paper(
        ("Muennighoff", "Rush", "Barak", "Le Scao"),
        True,
        2023,
        "Scaling Data-Constrained Language Models",
    ),
    "lin2024selecting": Paper(
        ("Lin",),
        True,
        2024,
        "Selecting Large Language Model to Fine-tune via Rectified Scaling Law",
    ),
    "qin2025synthetic": Paper(
        ("Qin",),
        True,
        2025,
        "Scaling Laws of Synthetic Data for Language Models",
    ),
    "goyal2024filtering": Paper(
        ("Goyal", "Maini", "Lipton", "Raghunathan", "Kolter"),
        False,
        2024,
        "Scaling Laws for Data Filtering: Data Curation cannot be Compute Agnostic",
    ),
    "ye2024mixing": Paper(
        ("Ye",),
        True,
        2024,
        "Data Mixing Laws: Optimizing Data Mixtures by Predicting Language Modeling Performance",
    ),
    "ge2024bimix": Paper(
        ("Ge", "Ma", "Chen", "Li", "Ding"),
        False,
        2024,
        "BiMix: A Bivariate Data Mixing Law for Language Model Pretraining",
    ),
    "fernandes2023multilingual": Paper(
        ("Fernandes", "Ghorbani", "Garcia", "Freitag", "Firat"),
        False,
        2023,
        "Scaling Laws for Multilingual Neural Machine Translation",
    ),
    "busbridge2025distillation": Paper(
        ("Busbridge", "Shidani", "Weers", "Ramapuram", "Littwin", "Webb"),
        False,
        2025,
        "Distillation Scaling Laws",
    ),
    "clark2022unified": Paper(
        ("Clark", "de las Casas", "Guy", "Mensch"),
        True,
        2022,
        "Unified Scaling Laws for Routed Language Models",
    ),
    "krajewski2024scaling": Paper(
        ("Krajewski", "Ludziejewski"),
        True,
        2024,
        "Scaling Laws for Fine-Grained Mixture of Experts",
    ),
    "ludziejewski2025joint": Paper(
        ("Ludziejewski", "Pioro", "Krajewski"),
        True,
        2025,
        "Joint MoE Scaling Laws: Mixture of Experts Can Be Memory Efficient",
    ),
    "tian2025leverage": Paper(
        ("Tian",),
        True,
        2025,
        "Towards Greater Leverage: Scaling Laws for Efficient Mixture-of-Experts Language Models",
    ),
    "abnar2025parameters": Paper(
        ("Abnar",),
        True,
        2025,
        "Parameters vs FLOPs: Scaling Laws for Optimal Sparsity for Mixture-of-Experts Language Models",
    ),
    "jin2025journey": Paper(
        ("Jin",),
        True,
        2025,
        "The Journey Matters: Average Parameter Count over Pre-training Unifies Sparse and Dense Scaling Laws",
    ),
    "chen2025parallel": Paper(
        ("Chen",),
        True,
        2025,
        "Parallel Scaling Law for Language Models",
    ),
    "tao2024vocabulary": Paper(
        ("Tao", "Liu"),
        True,
        2024,
        "Scaling Laws with Vocabulary: Larger Models Deserve Larger Vocabularies",
    ),
    "ghorbani2021translation": Paper(
        ("Ghorbani", "Firat", "Freitag"),
        True,
        2021,
        "Scaling Laws for Neural Machine Translation",
    ),
    "allenzhu2024knowledge": Paper(
        ("Allen-Zhu", "Li"),
        False,
        2024,
        "Physics of Language Models: Part 3.3, Knowledge Capacity Scaling Laws",
    ),
    "chen2025qat": Paper(
        ("Chen",),
        True,
        2025,
        "Scaling Law for Quantization-Aware Training",
    ),
    "ouyang2024lowbit": Paper(
        ("Ouyang", "Ge", "Hartvigsen", "Zhang", "Mi", "Yu"),
        False,
        2024,
        "Low-Bit Quantization Favors Undertrained LLMs: Scaling Laws for Quantized LLMs with 100T Training Tokens",
    ),
    "kumar2024precision": Paper(
        ("Kumar", "Ankner", "Spector"),
        True,
        2024,
        "Scaling Laws for Precision",
    ),
    "sun2025floating": Paper(
        ("Sun", "Li", "Xie"),
        True,
        2025,
        "Scaling Laws for Floating Point Quantization Training",
    ),
    "tissue2024annealing": Paper(
        ("Tissue", "Wang", "Wang"),
        False,
        2024,
        "Scaling Law with Learning Rate Annealing",
    ),
    "luo2025multipower": Paper(
        ("Luo", "Wen", "Hu", "Sun", "Liu", "Sun", "Lyu", "Chen"),
        False,
        2025,
        "A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules",
    ),
    "li2025steplaw": Paper(
        ("Li", "Zheng"),
        True,
        2025,
        "Predictable Scale: Part I, Step Law: Optimal Hyperparameter Scaling Law in Large Language Model Pretraining",
    ),
    "fan2025weightdecay": Paper(
        ("Fan", "Liu", "Zhao", "Yuan", "Gu"),
        False,
        2025,
        "Robust Layerwise Scaling Rules by Proper Weight Decay Tuning",
    ),
    **{key: Paper(*entry) for key, entry in DOWNSTREAM.items()},
}
"""Papers that the package's laws cite, as in `references.bib`."""


def paper_of(cite: str) -> Paper | None:
    """Return the paper of a citation key; for an unknown key, author and year in the key, or None if it has no year."""
    if cite in PAPERS:
        return PAPERS[cite]
    found = re.fullmatch(r"([^\W\d]+)(\d{4})(.*)", cite)
    return Paper((found[1].capitalize(),), False, int(found[2]), found[3]) if found else None


@functools.cache
def words_of(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in lower case, without accents and punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()
    return tuple(re.findall(r"[a-z]+|[0-9]+", plain))


def matches(wanted: Sequence[str], texts: Iterable[str]) -> bool:
    """Return whether one of the texts contains all wanted words, or equals them without spaces and punctuation.

    A wanted word of four or more letters also matches longer words that begin with it.
    """
    for text in texts:
        words = words_of(text)
        if "".join(wanted) == "".join(words):
            return True
        if all(any(word == one or (len(one) > 3 and word.startswith(one)) for word in words) for one in wanted):
            return True
    return False
