"""
The fraud monitor: schedules, runs and reports on the models of `detectors` and the data of `storage`.

    cli, daemon                   entry points: arguments, signals and clocks in; text, logs and exit codes out
    services                      use cases that every entry point can call
    runs, comparison              scoring runs, backfills, challengers; a benchmark of techniques on the user's history
    reporting, notifications      the report and the summary; events, messages and their delivery
    rendering                     charts, tables and pages that reports and messages share
    training                      one training: readiness, training set, choice, fit, promotion gate
    monitoring                    drift and detection quality of scored windows
    schedule                      the grid of windows, due steps, the context of a run
    scoring, rules                scores, flags and reasons; analysts' rules and mutes
    ingest, features              files and queries → stored rows; stored history → feature matrix
    schema_inference, simulation  a config proposed from a file; simulated payments
    config                        config.toml and environment → frozen Config

A package imports only those on lines below its own (`pyproject.toml`, [tool.importlinter]).
"""
