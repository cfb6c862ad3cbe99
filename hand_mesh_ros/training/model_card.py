"""What must be known of weights by whoever uses them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hand_mesh_ros import __version__
from hand_mesh_ros.training.recipes import Recipe, Supply
from hand_mesh_ros.training.resume import plain


def model_card(recipe: Recipe, report: dict[str, Any], parameters: int) -> str:
    """Markdown: what it is, data, recipe, seed, commit and metrics."""
    import yaml

    model = recipe.data.hand_model or "the free hand of hand-mesh-ros"
    lines = [
        f"# {recipe.name}",
        "",
        recipe.description.strip(),
        "",
        f"- Task: {recipe.task}; {parameters:,} trained parameters, stored in half precision "
        f"(`weights.safetensors`).",
        f"- Hand model that the parameters belong to: {model}.",
        f"- Training data: {_supply(recipe.data.train)} an epoch.",
        f"- Validation data: {_supply(recipe.data.validation)}, apart from the training data.",
        f"- {report['epochs']} epochs, {report['steps']} steps, {report['seconds']} s in the last "
        f"session, seed {report['seed']}.",
        f"- hand-mesh-ros {__version__}, commit {report['commit']}.",
        "",
        "## Metrics on the validation data",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {name} | {value:g} |" for name, value in report["metrics"].items()),
        "",
        "Errors of joints are millimetres: `val_mpjpe` relative to the wrist, `val_pa_mpjpe` after "
        "a similarity (no reflection).",
        "",
        "## Recipe",
        "",
        "```yaml",
        yaml.safe_dump(plain(recipe), sort_keys=False).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def commit() -> str:
    """The commit that this package runs from, "+ changes" if files differ; "unknown" elsewhere."""

    def git(*words: str) -> str:
        folder = Path(__file__).resolve().parent
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        # a repository that merely contains an installed copy is not ours
        if not git("ls-files", str(Path(__file__).resolve())):
            return "unknown"
        return head + (" + changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _supply(supply: Supply) -> str:
    if supply.source is not None:
        return f"{supply.count} samples of the source `{supply.source}` from seed {supply.first}"
    if supply.counts:
        of = (f"{count} samples of the store `{name}`" for name, count in supply.counts.items())
        return " and ".join(of) + " (`hand-mesh data instants`)"
    return f"{supply.count} samples of the shards `{supply.shards}`"
