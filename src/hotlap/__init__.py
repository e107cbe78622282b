"""hotlap gets a language-model training run to its target metrics in the least clock time, and proves it."""

__version__ = "0.1.0"
