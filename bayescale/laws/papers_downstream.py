"""Papers of laws of scores, test-time compute, post-training, data and shape; see `papers.PAPERS`."""

from __future__ import annotations

DOWNSTREAM: dict[str, tuple[tuple[str, ...], bool, int, str]] = {
    "hu2023predicting": (
        ("Hu", "Liu", "Han"),
        True,
        2023,
        "Predicting Emergent Abilities with Infinite Resolution Evaluation",
    ),
    "openai2023gpt4": (("OpenAI",), False, 2023, "GPT-4 Technical Report"),
    "isik2024downstream": (
        ("Isik", "Ponomareva", "Hazimeh", "Paparas", "Vassilvitskii", "Koyejo"),
        False,
        2024,
        "Scaling Laws for Downstream Task Performance of Large Language Models",
    ),
    "schaeffer2024elusive": (
        ("Schaeffer", "Schoelkopf", "Miranda"),
        True,
        2024,
        "Why Has Predicting Downstream Capabilities of Frontier AI Models with Scale Remained Elusive?",
    ),
    "bhagia2024ladder": (
        ("Bhagia", "Liu", "Wettig"),
        True,
        2024,
        "Establishing Task Scaling Laws via Compute-Efficient Model Ladders",
    ),
    "ruan2024observational": (
        ("Ruan", "Maddison", "Hashimoto"),
        False,
        2024,
        "Observational Scaling Laws and the Predictability of Language Model Performance",
    ),
    "xu2025unveiling": (
        ("Xu",),
        True,
        2025,
        "Unveiling Downstream Performance Scaling of LLMs: A Clustering-Based Perspective",
    ),
    "iyer2022optiml": (
        ("Iyer",),
        True,
        2022,
        "OPT-IML: Scaling Language Model Instruction Meta Learning through the Lens of Generalization",
    ),
    "tang2024textsquare": (("Tang",), True, 2024, "TextSquare: Scaling up Text-Centric Visual Instruction Tuning"),
    "blankemeier2024merlin": (
        ("Blankemeier",),
        True,
        2024,
        "Merlin: A Vision Language Foundation Model for 3D Computed Tomography",
    ),
    "heim2025knowledge": (
        ("Heim",),
        True,
        2025,
        "How do Scaling Laws Apply to Knowledge Graph Engineering Tasks? The Impact of Model Size on "
        "Large Language Model Performance",
    ),
    "orhan2023scaling": (
        ("Orhan",),
        False,
        2023,
        "Scaling may be all you need for achieving human-level object recognition capacity with "
        "human-like visual experience",
    ),
    "zhou2025general": (
        ("Zhou",),
        True,
        2025,
        "General Scales Unlock AI Evaluation with Explanatory and Predictive Power",
    ),
    "shao2024datastore": (
        ("Shao", "He", "Asai"),
        True,
        2024,
        "Scaling Retrieval-Based Language Models with a Trillion-Token Datastore",
    ),
    "liu2025fundus": (
        ("Liu", "Song"),
        False,
        2025,
        "Constructing Ophthalmic MLLM for Positioning-diagnosis Collaboration Through Clinical "
        "Cognitive Chain Reasoning",
    ),
    "mckenzie2023inverse": (("McKenzie",), True, 2023, "Inverse Scaling: When Bigger Isn't Better"),
    "wei2022inverse": (("Wei", "Kim", "Tay", "Le"), False, 2022, "Inverse Scaling Can Become U-Shaped"),
    "huang2025m1": (
        ("Huang",),
        True,
        2025,
        "m1: Unleash the Potential of Test-Time Scaling for Medical Reasoning with Large Language Models",
    ),
    "schapiro2025creativity": (
        ("Schapiro",),
        True,
        2025,
        "Combinatorial Creativity: A New Frontier in Generalization Abilities",
    ),
    "park2024iclr": (("Park",), True, 2024, "ICLR: In-Context Learning of Representations"),
    "schaeffer2025monkeys": (
        ("Schaeffer", "Kazdan", "Hughes"),
        True,
        2025,
        "How Do Large Language Monkeys Get Their Power (Laws)?",
    ),
    "wu2025temperature": (
        ("Wu", "Mirhoseini", "Tambe"),
        False,
        2025,
        "On the Role of Temperature Sampling in Test-Time Scaling",
    ),
    "wang2025scalingover": (
        ("Wang", "Zhu", "Leong", "Li", "Li"),
        False,
        2025,
        "Scaling over Scaling: Exploring Test-Time Scaling Pareto in Large Reasoning Models",
    ),
    "stroebl2024flaws": (
        ("Stroebl", "Kapoor", "Narayanan"),
        False,
        2024,
        "Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers",
    ),
    "balachandran2025inference": (
        ("Balachandran",),
        True,
        2025,
        "Inference-Time Scaling for Complex Tasks: Where We Stand and What Lies Ahead",
    ),
    "kwok2025robomonkey": (
        ("Kwok",),
        True,
        2025,
        "RoboMonkey: Scaling Test-Time Sampling and Verification for Vision-Language-Action Models",
    ),
    "ballon2025thinks": (
        ("Ballon", "Algaba", "Ginis"),
        False,
        2025,
        "The Relationship Between Reasoning and Performance in Large Language Models -- o3 (mini) "
        "Thinks Harder, Not Longer",
    ),
    "setlur2025verification": (
        ("Setlur", "Rajaraman", "Levine", "Kumar"),
        False,
        2025,
        "Scaling Test-Time Compute Without Verification or RL is Suboptimal",
    ),
    "zhu2025dynamic": (("Zhu",), True, 2025, "Dynamic Reflections: Probing Video Representations with Text Alignment"),
    "sinha2025illusion": (
        ("Sinha", "Arun", "Goel", "Staab", "Geiping"),
        False,
        2025,
        "The Illusion of Diminishing Returns: Measuring Long Horizon Execution in LLMs",
    ),
    "fort2023attacks": (("Fort",), False, 2023, "Scaling Laws for Adversarial Attacks on Language Model Activations"),
    "sadhukhan2025kinetics": (("Sadhukhan",), True, 2025, "Kinetics: Rethinking Test-Time Scaling Laws"),
    "yan2025speculative": (("Yan", "Zhu"), True, 2025, "Scaling Laws for Speculative Decoding"),
    "khatri2025scalerl": (("Khatri",), True, 2025, "The Art of Scaling Reinforcement Learning Compute for LLMs"),
    "tan2025rl": (
        ("Tan",),
        True,
        2025,
        "Scaling Behaviors of LLM Reinforcement Learning Post-Training: An Empirical Study in Mathematical Reasoning",
    ),
    "gao2022overoptimization": (
        ("Gao", "Schulman", "Hilton"),
        False,
        2022,
        "Scaling Laws for Reward Model Overoptimization",
    ),
    "rafailov2024scaling": (
        ("Rafailov", "Chittepu", "Park"),
        True,
        2024,
        "Scaling Laws for Reward Model Overoptimization in Direct Alignment Algorithms",
    ),
    "dong2023abilities": (
        ("Dong",),
        True,
        2023,
        "How Abilities in Large Language Models are Affected by Supervised Fine-tuning Data Composition",
    ),
    "yang2025parallel": (
        ("Yang", "Wu", "Li", "Zong", "Zhang"),
        False,
        2025,
        "Parallel Scaling Law: Unveiling Reasoning Generalization through A Cross-Linguistic Perspective",
    ),
    "mizrahi2025target": (
        ("Mizrahi",),
        True,
        2025,
        "Language Models Improve When Pretraining Data Matches Target Tasks",
    ),
    "xue2023repeat": (
        ("Xue", "Fu", "Zhou", "Zheng", "You"),
        False,
        2023,
        "To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis",
    ),
    "konz2024intrinsic": (
        ("Konz", "Mazurowski"),
        False,
        2024,
        "The Effect of Intrinsic Dataset Properties on Generalization: Unraveling Learning Differences "
        "Between Natural and Medical Images",
    ),
    "dollar2021fast": (("Dollár", "Singh", "Girshick"), False, 2021, "Fast and Accurate Model Scaling"),
    "bello2021revisiting": (("Bello",), True, 2021, "Revisiting ResNets: Improved Training and Scaling Strategies"),
    "sorscher2022pruning": (
        ("Sorscher", "Geirhos", "Shekhar", "Ganguli", "Morcos"),
        False,
        2022,
        "Beyond Neural Scaling Laws: Beating Power Law Scaling via Data Pruning",
    ),
    "kang2023projektor": (
        ("Kang",),
        True,
        2023,
        "Performance Scaling via Optimal Transport: Enabling Data Selection from Partially Revealed Sources",
    ),
    "nakamura2025sparsity": (
        ("Nakamura",),
        True,
        2025,
        "Optimal Sparsity of Mixture-of-Experts Language Models for Reasoning Tasks",
    ),
}
"""Authors, whether there are further authors, year and title, by citation key."""
