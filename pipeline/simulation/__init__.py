"""`simulate`: an economy of customers and merchants, its payments and its fraud."""
