"""What `hotlap ablate` and `hotlap status` print of an ablation."""

from hotlap.cli.screen import bold, table_lines
from hotlap.report.ablation import (
    AblationSummary,
    ablation_facts,
    ablation_headline,
    comparison_grid,
    overview_grid,
)


def ablation_lines(summary: AblationSummary) -> list[str]:
    """Return where an ablation stands as lines: the result, the facts, the variants and their differences."""
    facts = ablation_facts(summary)
    width = max(len(label) for label, _ in facts)
    lines = [bold(ablation_headline(summary)), "", *(f"  {label.ljust(width)}  {text}" for label, text in facts)]
    for grid in (overview_grid(summary), comparison_grid(summary)):
        if grid.rows:
            lines += ["", *(f"  {line}" for line in table_lines(grid.headers, grid.rows, left=2))]
    return lines
