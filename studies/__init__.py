"""Questions put to many trained models: sweeps through DVC's queue, gathered into tables and figures."""
