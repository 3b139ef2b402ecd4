"""
The fraud monitor: schedules, runs and reports on the models of `detectors` and the data of `storage`.

    cli, daemon                   entry points: arguments, signals and clocks in; text, logs and exit codes out
    api                           the same over HTTP: services as JSON and CSV
    services                      use cases that every entry point can call
    runs, comparison              scoring runs, backfills, challengers; a benchmark of techniques on the user's history
    reporting, notifications      the report and the summary; events, messages and their delivery
    rendering                     charts, tables and pages that reports and messages share
    training                      one training: readiness, training set, choice, fit, promotion gate
    monitoring                    drift and detection quality of scored windows
    schedule                      the grid of windows, due steps, the context of a run
    scoring, rules                scores, flags and reasons; analysts' rules and mutes
    schema_inference              a config proposed from a file
    ingest, features              files and queries → stored rows; stored history → feature matrix
    config, simulation            config.toml and environment → frozen Config; simulated payments

A package imports only those on lines below its own (`pyproject.toml`, [tool.importlinter]).
"""
