"""Ids of transactions where a file has none or several rows of one id: made from content, and items of orders."""
