"""The database: connections and transactions, tables, column types, bulk inserts, views, setup and leases."""
