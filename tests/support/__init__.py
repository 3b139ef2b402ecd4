"""What tests share: databases that are built once and copied, payments, SQL, the command line, a daemon's clock."""
