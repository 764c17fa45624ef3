"""The optional packages that some metrics need."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from atv_eval.metrics.metric_names import Metric
from atv_local.errors import UsageError

_PACKAGES = {
    Metric.CHRF: ("sacrebleu", "sacrebleu"),
    Metric.BLEU: ("sacrebleu", "sacrebleu"),
    Metric.ROUGE_L: ("rouge_score", "rouge-score"),
}


def check_metric_packages(metrics: Iterable[Metric]) -> None:
    """Raise UsageError for the first metric whose package is not installed."""
    for metric in metrics:
        module, package = _PACKAGES.get(metric, ("json", ""))
        if find_spec(module) is None:
            raise UsageError(
                f"the metric {metric} needs {package}, which is not installed; run: pip install 'atv-local[eval]', or "
                "choose other `metrics`"
            )
