"""Parts of ``benchmarks/evaluation.py`` and ``benchmarks/reranking.py``: what evaluations cost."""
