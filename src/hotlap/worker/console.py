"""What a run prints: the Trainer's log lines and its final metrics block (the form of transformers 4)."""

from collections.abc import Mapping


def log_line(values: Mapping[str, float]) -> str:
    """Return one log line, a dict with the loss rounded to four digits as in the Trainer."""
    rounded = {key: round(value, 4) if key.endswith("loss") else value for key, value in values.items()}
    return str(rounded)


def metrics_block(title: str, metrics: Mapping[str, float]) -> str:
    """Return the `***** eval metrics *****` block: sorted keys, four digits, runtimes as h:mm:ss.cc."""
    shown = {key: _show(key, metrics[key]) for key in sorted(metrics)}
    key_width, value_width = max(map(len, shown)), max(map(len, shown.values()))
    rows = [f"  {key:<{key_width}} = {value:>{value_width}}" for key, value in shown.items()]
    return "\n".join([f"***** {title} metrics *****", *rows])


def _show(key: str, value: float) -> str:
    if key.endswith("_runtime"):
        minutes, seconds = divmod(value, 60)
        hours, minutes = divmod(int(minutes), 60)
        return f"{hours}:{minutes:02}:{int(seconds):02}.{int(seconds % 1 * 100):02}"
    return str(round(value, 4)) if isinstance(value, float) else str(value)
