"""Engine, tables, column types, bulk writes, views, setup and leases."""
