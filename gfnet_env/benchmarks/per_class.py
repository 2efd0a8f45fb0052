"""Results of every class: precision, recall, F1, AUC and the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.report import new_figure, save_figure
from gfnet_env.benchmarks.results import ClassResult, rounded
from gfnet_env.console import PlainTable

# Classes up to which a table is printed, and a picture has names and numbers.
_SHOWN = 30


def class_results(
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    names: Sequence[str] | None = None,
) -> tuple[tuple[ClassResult, ...], tuple[tuple[int, ...], ...]]:
    """Results of every class, and the confusion matrix, see ``Evaluation``.

    Args:
        labels: Classes of the images, (N,).
        probabilities: Of every class, (N, K).
        names: K names; by default their numbers.
    """
    # Imported here: few commands need it, and it is slow to import.
    from sklearn import metrics

    numbers = np.arange(probabilities.shape[1])
    taken = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, taken, labels=numbers)
    columns = metrics.precision_recall_fscore_support(
        labels, taken, labels=numbers, zero_division=np.nan
    )
    results = tuple(
        ClassResult(
            name=names[number] if names else str(number),
            images=int(confusion[number].sum()),
            precision=_known(columns[0][number]),
            recall=_known(columns[1][number]),
            f1=_known(columns[2][number]),
            auc=_auc(labels == number, probabilities[:, number]),
        )
        for number in numbers.tolist()
    )
    return results, tuple(map(tuple, confusion.tolist()))


def _auc(is_it: npt.NDArray[np.bool_], probability: npt.NDArray[np.float32]) -> float | None:
    # A curve needs images of the class, and others.
    if is_it.all() or not is_it.any():
        return None
    from sklearn import metrics

    return rounded(metrics.roc_auc_score(is_it, probability))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else rounded(value)


def print_classes(results: Sequence[ClassResult], console: Console) -> None:
    """Print a table, unless there are too many classes."""
    if len(results) > _SHOWN:
        return
    figures = ("images", "precision", "recall", "F1", "AUC")
    table = PlainTable("class", *figures, title="after all looks")
    for each in results:
        shares = (each.precision, each.recall, each.f1)
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        table.add_row(
            each.name, f"{each.images:,}", *cells, "" if each.auc is None else f"{each.auc:.3f}"
        )
    console.print(table)


def plot_confusion(
    results: Sequence[ClassResult], confusion: Sequence[Sequence[int]], path: Path
) -> None:
    """Draw the confusion matrix: how each class (row) is shared among what it is taken for."""
    counts = np.array(confusion)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(12.0, 3 + 0.45 * len(counts))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, label="share of the class", shrink=0.8)
    axes.set(xlabel="taken for", ylabel="class", title="After all looks")
    if len(counts) <= _SHOWN:
        names = [each.name for each in results]
        # The name of a class may look like a formula.
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, fontsize=8)
    save_figure(figure, path)
