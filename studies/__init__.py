"""Questions put to many trained models: sweeps through DVC's queue, gathered into tables and figures."""

import vitpipe.figures  # noqa: F401  before anything of matplotlib, see vitpipe.figures.backend
