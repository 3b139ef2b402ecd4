"""
The fraud monitor: schedules, runs and shows what `detectors` computes and `storage` keeps.

    cli, daemon                   the doors: arguments, signals and clocks in; text, logs and exit codes out
    services                      what every door can do, as functions
    runs, comparison              one scoring run, a backfill, challengers; every technique on the user's own history
    reporting, notifications      the report and the summary; events, messages and their delivery
    rendering                     charts, tables and pages that reports and messages share
    training                      one training: readiness, training set, choice, fit, promotion gate
    monitoring                    drift and detection quality of scored windows
    schedule                      the grid of windows, what is due, the context of a run
    scoring, rules                scores, flags and reasons; analysts' rules and mutes
    ingest, features              files and queries to stored rows; stored history to a feature matrix
    schema_inference, simulation  a config proposed from a file; simulated payments
    config                        config.toml and environment to a frozen Config

A package imports only those on lines below its own (`pyproject.toml`, [tool.importlinter]).
"""
