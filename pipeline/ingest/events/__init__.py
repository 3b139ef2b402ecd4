"""Files whose rows are events of payments: authorised, settled, refunded, charged back."""
